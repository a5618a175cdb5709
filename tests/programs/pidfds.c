/* Descriptors that name processes: of children, of the parent, of oneself, of one that has ended and of one that nobody
   knows any more; polled, watched by an epoll set, used for signals and for waiting. */
#include "steps.h"
#include <linux/sched.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int open_pidfd(pid_t pid) {
  int number = syscall(SYS_pidfd_open, pid, 0);
  CHECK(number >= 0);
  return number;
}

static int has_ended(int number) {
  struct pollfd poll_one = {number, POLLIN, 0};
  int heard = poll(&poll_one, 1, 0);
  CHECK(heard >= 0 && (!heard || (poll_one.revents & POLLIN)));
  return heard;
}

static int send(int number, int signal) { return syscall(SYS_pidfd_send_signal, number, signal, NULL, 0); }

static volatile sig_atomic_t heard;
static void hear(int signal) { heard += signal == SIGUSR1; }

static void child(int of_parent) {
  signal(SIGUSR1, hear);
  int of_self = open_pidfd(getpid());
  for (long n = 1; !stopping(); n++) {
    /* Without a parent it has no business any more. */
    if (has_ended(of_parent)) pause();
    CHECK(send(of_parent, 0) == 0 && !has_ended(of_self) && send(of_self, 0) == 0);
    int before = heard;
    CHECK(send(of_self, SIGUSR1) == 0 && heard > before);
    step("child", n);
    rest(10);
  }
  /* Its parent watches it. */
  rest(100);
  _exit(44);
}

int main(void) {
  int of_main = open_pidfd(getpid()), of_child = -1;
  struct clone_args args = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&of_child, .exit_signal = SIGCHLD};
  pid_t lasting = syscall(SYS_clone3, &args, sizeof args);
  if (lasting == 0) child(of_main);
  CHECK(lasting > 0);
  pid_t ended = fork();
  if (ended == 0) _exit(45);
  siginfo_t info;
  CHECK(waitid(P_PID, ended, &info, WEXITED | WNOWAIT) == 0);
  int of_ended = open_pidfd(ended), again = dup(of_ended);
  pid_t forgotten = fork();
  if (forgotten == 0) _exit(46);
  int of_forgotten = open_pidfd(forgotten);
  CHECK(waitpid(forgotten, NULL, 0) == forgotten);
  CHECK(fcntl(of_child, F_SETFL, fcntl(of_child, F_GETFL) | O_NONBLOCK) == 0);
  int set = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = 77};
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, of_child, &event) == 0);
  for (long n = 1; !stopping(); n++) {
    CHECK(send(of_child, 0) == 0);
    CHECK(waitid(P_PIDFD, of_child, &info, WEXITED | WNOHANG) == 0 || errno == EAGAIN);
    CHECK(has_ended(of_ended) && has_ended(again) && has_ended(of_forgotten) && !has_ended(of_main));
    CHECK(send(of_forgotten, 0) < 0 && errno == ESRCH);
    memset(&info, 0, sizeof info);
    CHECK(waitid(P_PIDFD, of_ended, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == ended && info.si_status == 45);
    /* The flags of the description, and those of the numbers. */
    CHECK((fcntl(of_child, F_GETFL) & O_NONBLOCK) && !(fcntl(of_main, F_GETFL) & O_NONBLOCK));
    CHECK(fcntl(of_child, F_GETFD) == FD_CLOEXEC && fcntl(again, F_GETFD) == 0);
    CHECK(epoll_wait(set, &event, 1, 0) == 0 || stopping());
    step("main", n);
    rest(10);
  }
  CHECK(epoll_wait(set, &event, 1, 20000) == 1 && event.data.u32 == 77);
  memset(&info, 0, sizeof info);
  CHECK(waitid(P_PIDFD, of_child, &info, WEXITED) == 0 && info.si_pid == lasting && info.si_status == 44);
  CHECK(waitid(P_PIDFD, again, &info, WEXITED) == 0 && info.si_pid == ended);
  CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
  return done();
}
