/* epoll with every kind of entry, timers, signals and the process itself as descriptors. */
#include "steps.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

enum { ROOM = 16, EDGE = 2, CLOSED = 5, REUSED = 6, ONCE = 4 };
static const uint64_t TICK = 0x1122334455667788;
static struct epoll_event got[ROOM];

static void add(int set, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
}

static int reported(int count, uint64_t data) {
  int found = 0;
  for (int i = 0; i < count; i++) found += got[i].data.u64 == data;
  return found;
}

static int timer(int clock, int flags, time_t seconds, long first, long every) {
  int fd = timerfd_create(clock, TFD_NONBLOCK);
  struct itimerspec time = {{0, every}, {seconds, first}};
  CHECK(fd >= 0 && timerfd_settime(fd, flags, &time, NULL) == 0);
  return fd;
}

static time_t left(int fd) {
  struct itimerspec time;
  CHECK(timerfd_gettime(fd, &time) == 0);
  return time.it_value.tv_sec;
}

int main(void) {
  uint64_t value;
  int tick = timer(CLOCK_MONOTONIC, 0, 0, 20000000, 20000000);
  int date = timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME, time(NULL) + 3600, 0, 0);
  int idle = timer(CLOCK_BOOTTIME, 0, 0, 0, 0), unread = timer(CLOCK_MONOTONIC, 0, 0, 1, 0);
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMIN + 3);
  CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  int signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), self = (int)syscall(SYS_pidfd_open, getpid(), 0);
  int all = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(0), counter = eventfd(0, EFD_NONBLOCK);
  int edge[2], moved[2];
  CHECK(signals >= 0 && self >= 0 && all >= 0 && inner >= 0 && pipe(edge) == 0 && pipe2(moved, O_NONBLOCK) == 0);
  add(all, tick, EPOLLIN, TICK);
  add(all, edge[0], EPOLLIN | EPOLLET, EDGE);
  add(all, inner, EPOLLIN, 3);
  add(inner, counter, EPOLLIN | EPOLLONESHOT, ONCE);
  /* Entries whose number is closed, or something else by now, while the pipe lives on. */
  CHECK(dup2(moved[0], 60) == 60 && dup2(moved[0], 61) == 61);
  add(all, 60, EPOLLIN, CLOSED), add(all, 61, EPOLLIN, REUSED);
  CHECK(close(60) == 0 && dup2(counter, 61) == 61);

  for (long n = 1; !stopping(); n++) {
    char out = (char)n, in;
    CHECK(write(edge[1], &out, 1) == 1);
    struct signalfd_siginfo info;
    CHECK(kill(getpid(), SIGUSR1) == 0 && read(signals, &info, sizeof info) == sizeof info);
    CHECK(info.ssi_signo == SIGUSR1 && info.ssi_pid == (uint32_t)getpid());
    rest(10);
    int count = epoll_wait(all, got, ROOM, 200);
    CHECK(count > 0 && reported(count, EDGE) == 1 && reported(count, EDGE) + reported(count, TICK) == count);
    if (reported(count, TICK)) CHECK(read(tick, &value, 8) == 8 && value >= 1);
    CHECK(read(edge[0], &in, 1) == 1 && in == out);
    CHECK(write(moved[1], "z", 1) == 1);
    count = epoll_wait(all, got, ROOM, 100);
    CHECK(reported(count, CLOSED) == 1 && reported(count, REUSED) == 1 && read(moved[0], &in, 1) == 1);
    value = 1;
    CHECK(write(counter, &value, 8) == 8);
    CHECK(epoll_wait(inner, got, ROOM, 100) == 1 && got[0].data.u64 == ONCE && epoll_wait(inner, got, ROOM, 0) == 0);
    CHECK(read(counter, &value, 8) == 8 && value == 1);
    struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = ONCE};
    CHECK(epoll_ctl(inner, EPOLL_CTL_MOD, counter, &again) == 0);
    CHECK(left(date) > 3000 && left(date) <= 3600 && left(idle) == 0);
    CHECK(syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) == 0 && fcntl(all, F_GETFD) == FD_CLOEXEC);
    step("main", n);
  }
  CHECK(read(unread, &value, 8) == 8 && value == 1);
  return done();
}
