/* What two processes have of the same pipes, files, FIFOs, counters and signals. They take turns: in every step the first
   process acts and tells the second, which looks, acts and answers. */
#include "steps.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

enum { LAG = 3, PACKET = 100, CAPACITY = 16384, WINDOW = 4096 };

static int go[2], back[2], packets[2], last[2], unread[2], noticed[2], file, again, counter, fifo, signals;
static pid_t first, second;
static volatile sig_atomic_t sender, value;

static void hear(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  sender = info->si_pid;
  value = info->si_value.sival_int;
}

static void packet(char *bytes, long n) {
  memset(bytes, 'a' + n % 26, PACKET);
  snprintf(bytes, PACKET, "packet %ld", n);
}

/* The offset, which both move. */
static void reads(int number, long at) {
  char bytes[8];
  CHECK(lseek(number, 0, SEEK_CUR) == at && read(number, bytes, sizeof bytes) == sizeof bytes);
  for (int i = 0; i < (int)sizeof bytes; i++) CHECK(bytes[i] == (char)(at + i));
}

static void told(int number, char what) {
  char byte;
  ssize_t length = read(number, &byte, 1);
  if (length == 0) pause();
  CHECK(length == 1 && byte == what);
}

static void hears_signal(int wanted, int queued) {
  struct signalfd_siginfo info;
  struct pollfd poll_one = {signals, POLLIN, 0};
  CHECK(poll(&poll_one, 1, 20000) == 1 && read(signals, &info, sizeof info) == sizeof info);
  CHECK((int)info.ssi_signo == wanted && (queued < 0 || info.ssi_int == queued));
}

static void second_side(void) {
  second = getpid();
  CHECK(setpgid(0, 0) == 0 && close(last[0]) == 0 && close(unread[1]) == 0 && close(noticed[1]) == 0);
  CHECK(close(go[1]) == 0 && close(back[0]) == 0 && close(packets[1]) == 0);
  CHECK(fcntl(again, F_SETFD, 0) == 0 && fcntl(file, F_SETFD, FD_CLOEXEC) == 0);
  CHECK((fifo = open(in_dir("fifo"), O_WRONLY)) >= 0);
  struct sigaction action = {.sa_sigaction = hear, .sa_flags = SA_SIGINFO | SA_RESTART};
  CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && (signals = signalfd(-1, &set, SFD_CLOEXEC)) >= 0);
  struct f_owner_ex owner = {F_OWNER_PID, second};
  CHECK(fcntl(noticed[0], F_SETOWN_EX, &owner) == 0 && fcntl(noticed[0], F_SETSIG, SIGUSR2) == 0);
  CHECK(fcntl(noticed[0], F_SETFL, O_ASYNC) == 0 && fcntl(packets[0], F_SETOWN, -second) == 0);
  CHECK(write(back[1], "r", 1) == 1);
  for (long n = 1;; n++) {
    char byte, expected[PACKET], bytes[PACKET + 1];
    uint64_t count;
    ssize_t length = read(go[0], &byte, 1);
    if (length == 0) pause();
    CHECK(length == 1);
    if (byte == 'e') _exit(50);
    CHECK(getppid() == first && kill(first, 0) == 0 && kill(-second, 0) == 0);
    /* Written LAG steps ago. */
    packet(expected, n);
    CHECK(read(packets[0], bytes, sizeof bytes) == PACKET && memcmp(bytes, expected, PACKET) == 0);
    CHECK(fcntl(packets[0], F_GETPIPE_SZ) == CAPACITY);
    reads(again, (n * 16 - 8) % WINDOW);
    CHECK(fcntl(again, F_GETFD) == 0 && fcntl(file, F_GETFD) == FD_CLOEXEC);
    CHECK(!(fcntl(again, F_GETFL) & O_APPEND) == !(n % 2));
    CHECK(read(counter, &count, sizeof count) == sizeof count && count == 1);
    CHECK(read(counter, &count, sizeof count) == sizeof count && count == 1);
    hears_signal(SIGUSR1, (int)n);
    hears_signal(SIGUSR2, -1);
    CHECK(read(noticed[0], &byte, 1) == 1 && byte == 'n');
    struct f_owner_ex kept = {-1, -1};
    CHECK(fcntl(noticed[0], F_GETOWN_EX, &kept) == 0 && kept.type == F_OWNER_PID && kept.pid == second);
    CHECK(fcntl(packets[0], F_GETOWN_EX, &kept) == 0 && kept.type == F_OWNER_PGRP && kept.pid == second);
    while (value != (int)n) poll(NULL, 0, 1);
    CHECK(sender == first && write(fifo, &n, sizeof n) == sizeof n);
    step("second", n);
    CHECK(write(back[1], "d", 1) == 1);
  }
}

int main(void) {
  first = getpid();
  CHECK(pipe(go) == 0 && pipe(back) == 0 && pipe2(packets, O_DIRECT) == 0 && pipe(last) == 0 && pipe(unread) == 0);
  CHECK(pipe(noticed) == 0 && fcntl(packets[1], F_SETPIPE_SZ, CAPACITY) == CAPACITY);
  CHECK((counter = eventfd(3, EFD_SEMAPHORE)) >= 0 && mkfifo(in_dir("fifo"), 0600) == 0);
  CHECK((file = open(in_dir("shared"), O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
  for (int i = 0; i < WINDOW; i++) CHECK(write(file, &(char){(char)i}, 1) == 1);
  CHECK(lseek(file, 0, SEEK_SET) == 0 && (again = dup(file)) >= 0 && fcntl(again, F_SETFD, FD_CLOEXEC) == 0);
  signal(SIGPIPE, SIG_IGN);
  second = fork();
  CHECK(second >= 0);
  if (second == 0) second_side();
  CHECK(close(last[1]) == 0 && close(unread[0]) == 0 && close(noticed[0]) == 0 && close(packets[0]) == 0);
  CHECK(close(go[0]) == 0 && close(back[1]) == 0 && (fifo = open(in_dir("fifo"), O_RDONLY)) >= 0);
  told(back[0], 'r');
  char bytes[PACKET];
  for (long n = 1; n <= LAG; n++) {
    packet(bytes, n);
    CHECK(write(packets[1], bytes, PACKET) == PACKET);
  }
  CHECK(write(unread[1], "kept", 4) == 4);
  for (long n = 1; !stopping(); n++) {
    uint64_t two = 2;
    long seen;
    packet(bytes, n + LAG);
    CHECK(fcntl(packets[1], F_GETFL) & O_DIRECT);
    CHECK(write(packets[1], bytes, PACKET) == PACKET && write(counter, &two, sizeof two) == sizeof two);
    CHECK(fcntl(file, F_SETFL, n % 2 ? O_APPEND : 0) == 0 && !(fcntl(last[0], F_GETFL) & O_NONBLOCK));
    reads(file, (n * 16 - 16) % WINDOW);
    CHECK(fcntl(again, F_GETFD) == FD_CLOEXEC && fcntl(file, F_GETFD) == 0);
    CHECK(sigqueue(second, SIGUSR1, (union sigval){.sival_int = (int)n}) == 0);
    CHECK(sigqueue(second, SIGRTMIN, (union sigval){.sival_int = (int)n}) == 0);
    CHECK(write(noticed[1], "n", 1) == 1 && syscall(SYS_tgkill, second, second, 0) == 0);
    CHECK(getpgid(second) == second && write(go[1], "g", 1) == 1);
    told(back[0], 'd');
    CHECK(read(fifo, &seen, sizeof seen) == sizeof seen && seen == n);
    /* Nobody but the other process holds these ends. */
    struct pollfd ends[] = {{last[0], POLLIN, 0}, {unread[1], POLLOUT, 0}};
    CHECK(poll(ends, 2, 0) == 1 && ends[0].revents == 0 && ends[1].revents == POLLOUT);
    if (n * 16 % WINDOW == 0) CHECK(lseek(again, 0, SEEK_SET) == 0);
    step("first", n);
    rest(10);
  }
  int status;
  CHECK(write(go[1], "e", 1) == 1 && waitpid(second, &status, 0) == second && WEXITSTATUS(status) == 50);
  CHECK(read(last[0], bytes, 1) == 0 && write(unread[1], "x", 1) < 0 && errno == EPIPE);
  CHECK(write(packets[1], "x", 1) < 0 && errno == EPIPE && read(fifo, bytes, 1) == 0);
  return done();
}
