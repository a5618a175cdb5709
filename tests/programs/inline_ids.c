/* System calls with ids that are made by instructions of the program's own, past libc: what they take and give must stay what
   it was, as what libc's functions do. Four threads; one of them made past libc; a signal handler; children by raw fork, vfork
   and waits; programs that are executed afterwards. */
#include "steps.h"
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>

static inline long raw(long number, long a, long b, long c, long d, long e) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = 0;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
/* The number right before the instruction, as compilers put it. */
static long own_tid(void) {
  long result;
  __asm__ volatile("mov $186, %%eax\n\tsyscall" : "=a"(result) : : "rcx", "r11", "memory");
  return result;
}

static pid_t pid, group, session;
static int bell[2];
enum { THREADS = 3 };
static struct { pid_t tid; atomic_int rung; } self[THREADS + 1];
static __thread int number = -1;
static volatile pid_t sender, expected;

static void on_bell(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  sender = info->si_pid;
  /* A call in a handler. */
  if (own_tid() != gettid()) sender = -1;
  self[number].rung++;
}

/* Who am I. */
static void check_self(int n) {
  CHECK(own_tid() == self[n].tid && gettid() == self[n].tid);
  CHECK(raw(SYS_getpid, 0, 0, 0, 0, 0) == pid && getpid() == pid);
  /* A session of outside is another one in a namespace. */
  CHECK(session != pid || raw(SYS_getsid, pid, 0, 0, 0, 0) == session);
  CHECK(group != pid || (raw(SYS_getpgid, 0, 0, 0, 0, 0) == group && raw(SYS_getpgid, pid, 0, 0, 0, 0) == group));
  CHECK(group != pid || raw(SYS_getpgrp, 0, 0, 0, 0, 0) == group);
}

/* Calls that take the id of a process or thread. */
static void check_taking(pid_t tid) {
  struct sched_param parameter;
  unsigned long set[16];
  struct rlimit limit;
  struct timespec slice;
  CHECK(raw(SYS_kill, pid, 0, 0, 0, 0) == 0 && (group != pid || raw(SYS_kill, -group, 0, 0, 0, 0) == 0));
  CHECK(raw(SYS_tgkill, pid, tid, 0, 0, 0) == 0 && raw(SYS_tkill, tid, 0, 0, 0, 0) == 0);
  CHECK(raw(SYS_sched_getscheduler, tid, 0, 0, 0, 0) == SCHED_OTHER);
  CHECK(raw(SYS_sched_getparam, tid, (long)&parameter, 0, 0, 0) == 0);
  CHECK(raw(SYS_sched_setparam, tid, (long)&parameter, 0, 0, 0) == 0);
  CHECK(raw(SYS_sched_getaffinity, tid, sizeof set, (long)set, 0, 0) > 0);
  CHECK(raw(SYS_sched_rr_get_interval, tid, (long)&slice, 0, 0, 0) == 0);
  CHECK(raw(SYS_prlimit64, pid, RLIMIT_NOFILE, 0, (long)&limit, 0) == 0);
  CHECK(raw(SYS_getpriority, PRIO_PROCESS, tid, 0, 0, 0) == 20);
  CHECK(raw(SYS_setpriority, PRIO_PROCESS, tid, 0, 0, 0) == 0);
  CHECK(raw(SYS_ioprio_get, 1, tid, 0, 0, 0) >= 0);
  CHECK(raw(SYS_kcmp, pid, pid, KCMP_FILES, 0, 0) == 0);
  long head, length;
  CHECK(raw(SYS_get_robust_list, tid, (long)&head, (long)&length, 0, 0) == 0);
  long value = 4711, copy = 0;
  struct iovec from = {&value, sizeof value}, to = {&copy, sizeof copy};
  __asm__ volatile("" : : "r"(&value) : "memory");
  CHECK(raw(SYS_process_vm_readv, pid, (long)&to, 1, (long)&from, 1) == sizeof value && copy == 4711);
  long file = raw(SYS_pidfd_open, pid, 0, 0, 0, 0);
  CHECK(file >= 0 && raw(SYS_close, file, 0, 0, 0, 0) == 0);
  CHECK(raw(SYS_fcntl, bell[0], F_SETOWN, pid, 0, 0) == 0 && raw(SYS_fcntl, bell[0], F_GETOWN, 0, 0, 0) == pid);
  /* Errors are errors. */
  CHECK(raw(SYS_close, 9999, 0, 0, 0, 0) == -EBADF && raw(SYS_kill, 0x3ffffe, 0, 0, 0, 0) == -ESRCH);
}

/* A thread wakes another one past libc, which learns who it was. */
static void check_signal(pid_t to, int n, int by_queue) {
  int before = self[n].rung;
  sender = 0;
  siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
  info.si_pid = pid;
  long sent = by_queue ? raw(SYS_rt_tgsigqueueinfo, pid, to, SIGUSR1, (long)&info, 0) : raw(SYS_tgkill, pid, to, SIGUSR1, 0, 0);
  CHECK(sent == 0);
  while (self[n].rung == before) sched_yield();
  CHECK(by_queue || sender == pid);
  CHECK(sender != -1);
}

static void check_masks(void) {
  uint64_t all = ~0ULL, old = 0, now = 0;
  CHECK(raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0) == 0);
  /* Everything is blocked, and calls go on. */
  CHECK(raw(SYS_getpid, 0, 0, 0, 0, 0) == pid && (old & 1 << (SIGUSR2 - 1)) == 0);
  CHECK(raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, (long)&now, 8, 0) == 0 && now & 1 << (SIGUSR2 - 1));
  sigset_t every, before;
  sigfillset(&every);
  CHECK(sigprocmask(SIG_BLOCK, &every, &before) == 0);
  CHECK(own_tid() == gettid());
  CHECK(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
  static char space[65536];
  stack_t none, mine = {.ss_sp = space, .ss_size = sizeof space}, off = {.ss_flags = SS_DISABLE};
  CHECK(raw(SYS_sigaltstack, (long)&mine, (long)&none, 0, 0, 0) == 0 && none.ss_flags == SS_DISABLE);
  CHECK(sigaltstack(NULL, &none) == 0 && none.ss_sp == space && own_tid() == gettid());
  CHECK(raw(SYS_sigaltstack, (long)&off, (long)&none, 0, 0, 0) == 0 && none.ss_sp == space && none.ss_flags == 0);
  CHECK(sigaltstack(NULL, &none) == 0 && none.ss_flags == SS_DISABLE);
}

/* A child by raw fork, one by clone3, one by vfork; raw waits. */
static void check_children(void) {
  int status;
  long child = raw(SYS_fork, 0, 0, 0, 0, 0);
  if (child == 0) {
    int good = raw(SYS_getppid, 0, 0, 0, 0, 0) == pid && getppid() == pid && raw(SYS_getpid, 0, 0, 0, 0, 0) == getpid();
    raw(SYS_exit_group, good ? 11 : 12, 0, 0, 0, 0);
  }
  CHECK(child > 0 && child != pid);
  siginfo_t info = {0};
  CHECK(raw(SYS_waitid, P_PID, child, (long)&info, WEXITED | WNOWAIT, 0) == 0 && info.si_pid == child);
  CHECK(raw(SYS_wait4, child, (long)&status, 0, 0, 0) == child && WEXITSTATUS(status) == 11);
  pid_t told = 0;
  struct clone_args args = {.flags = CLONE_PARENT_SETTID, .parent_tid = (uint64_t)&told, .exit_signal = SIGCHLD};
  child = raw(SYS_clone3, (long)&args, sizeof args, 0, 0, 0);
  if (child == 0) raw(SYS_exit_group, raw(SYS_getppid, 0, 0, 0, 0, 0) == pid ? 13 : 14, 0, 0, 0, 0);
  CHECK(child > 0 && told == child);
  CHECK(raw(SYS_wait4, -1, (long)&status, 0, 0, 0) == child && WEXITSTATUS(status) == 13);
  /* vfork: the child has this memory, and this stack. The number is in front of the instruction. */
  static volatile long childs, parents;
  __asm__ volatile("mov $58, %%eax\n\tsyscall" : "=a"(child) : : "rcx", "r11", "memory");
  if (child == 0) {
    childs = raw(SYS_getpid, 0, 0, 0, 0, 0);
    parents = raw(SYS_getppid, 0, 0, 0, 0, 0);
    raw(SYS_exit_group, 15, 0, 0, 0, 0);
  }
  CHECK(child > 0 && childs == child && parents == pid);
  CHECK(raw(SYS_wait4, child, (long)&status, 0, 0, 0) == child && WEXITSTATUS(status) == 15);
  /* libc's, beside. */
  child = fork();
  if (child == 0) raw(SYS_exit_group, raw(SYS_getppid, 0, 0, 0, 0, 0) == pid && own_tid() == getpid() ? 16 : 17, 0, 0, 0, 0);
  CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 16);
  child = vfork();
  if (child == 0) _exit(18);
  CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 18);
}

/* A static program, and one under control, do not notice: neither is trapped from the start. */
static void check_programs(void) {
  const char *programs[] = {in_dir("static"), "/bin/true"};
  for (int n = 0; n < 2; n++) {
    char *argv[] = {(char *)programs[n], NULL};
    pid_t child = fork();
    int status;
    if (child == 0) {
      raw(SYS_execve, (long)programs[n], (long)argv, (long)environ, 0, 0);
      _exit(99);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
  }
}

/* A thread that the program makes itself, with a stack of its own. It shares the thread pointer: no libc in it. */
static char stack[65536] __attribute__((aligned(16)));
static volatile pid_t odd_tid, odd_word, odd_said;
static volatile int odd_good;
static void odd(void) {
  odd_said = own_tid();
  odd_good = raw(SYS_getpid, 0, 0, 0, 0, 0) == pid && raw(SYS_tgkill, pid, odd_said, 0, 0, 0) == 0;
  raw(SYS_exit, 0, 0, 0, 0, 0);
}
static void check_odd_thread(void) {
  long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID
               | CLONE_CHILD_CLEARTID;
  void **top = (void **)(stack + sizeof stack - 64);
  odd_said = 0, odd_good = 0, odd_word = 1;
  long result;
  register long r10 __asm__("r10") = (long)&odd_word;
  register long r8 __asm__("r8") = 0;
  register void (*run)(void) __asm__("r12") = odd;
  __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\tcall *%%r12\n1:"
                   : "=a"(result) : "a"(SYS_clone), "D"(flags), "S"(top), "d"(&odd_tid), "r"(r10), "r"(r8), "r"(run)
                   : "rcx", "r11", "memory");
  CHECK(result > 0);
  while (odd_word != 0) sched_yield();
  CHECK(odd_good && odd_said == result && odd_tid == result);
}

/* A blocking call: a signal may cut it short. */
static void raw_rest(void) {
  struct timespec t = {0, 10000000};
  long result = raw(SYS_nanosleep, (long)&t, 0, 0, 0, 0);
  CHECK(result == 0 || result == -EINTR);
}

static void *worker(void *arg) {
  int n = (long)arg;
  number = n;
  self[n].tid = own_tid();
  char name[8];
  snprintf(name, sizeof name, "t%d", n);
  for (long i = 1; !stopping(); i++) {
    check_self(n);
    check_taking(self[n].tid);
    step(name, i);
    raw_rest();
  }
  return NULL;
}

/* SIGSYS is the program's, too. */
static volatile int called;
static void on_sigsys(int signal, siginfo_t *info, void *context) {
  (void)context;
  called += signal == SIGSYS && info->si_code <= 0 && own_tid() == gettid();
}
static void check_own_handler(void) {
  struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO}, old, before;
  sigfillset(&action.sa_mask);
  called = 0;
  CHECK(sigaction(SIGSYS, &action, &before) == 0 && before.sa_handler == SIG_DFL);
  CHECK(raw(SYS_tgkill, pid, self[0].tid, SIGSYS, 0, 0) == 0 && called == 1 && own_tid() == gettid());
  CHECK(raise(SIGSYS) == 0 && called == 2 && own_tid() == gettid());
  CHECK(sigaction(SIGSYS, NULL, &old) == 0 && old.sa_sigaction == on_sigsys);
  uint64_t plain[4] = {(uint64_t)SIG_IGN}, known[4];
  CHECK(raw(SYS_rt_sigaction, SIGSYS, (long)plain, (long)known, 8, 0) == 0 && known[0] == (uint64_t)on_sigsys);
  CHECK(raise(SIGSYS) == 0 && called == 2);
  CHECK(signal(SIGSYS, SIG_DFL) == SIG_IGN);
  CHECK(signal(SIGUSR2, SIG_IGN) == SIG_DFL);
  CHECK(raw(SYS_rt_sigaction, SIGUSR2, (long)plain, (long)known, 8, 0) == 0 && known[0] == (uint64_t)SIG_IGN);
  CHECK(signal(SIGUSR2, SIG_DFL) == SIG_IGN);
  /* By default it ends a process. */
  int status;
  pid_t child = fork();
  if (child == 0) {
    raw(SYS_kill, raw(SYS_getpid, 0, 0, 0, 0, 0), SIGSYS, 0, 0, 0);
    _exit(98);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

int main(void) {
  pid = getpid(), group = getpgrp(), session = getsid(0);
  number = 0;
  self[0].tid = gettid();
  CHECK(pipe2(bell, O_CLOEXEC) == 0);
  struct sigaction action = {.sa_sigaction = on_bell, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigfillset(&action.sa_mask);
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  pthread_t thread[THREADS + 1];
  for (long n = 1; n <= THREADS; n++) OK(pthread_create(&thread[n], NULL, worker, (void *)n));
  while (!self[1].tid || !self[2].tid || !self[3].tid) sched_yield();
  for (long i = 1; !stopping(); i++) {
    check_self(0);
    check_taking(self[1 + i % THREADS].tid);
    check_signal(self[1 + i % THREADS].tid, 1 + i % THREADS, i % 2);
    check_masks();
    if (access(in_dir("ask"), F_OK) == 0) {
      check_children();
      check_programs();
      check_odd_thread();
      check_own_handler();
      CHECK(unlink(in_dir("ask")) == 0);
    }
    step("main", i);
    rest(10);
  }
  for (int n = 1; n <= THREADS; n++) OK(pthread_join(thread[n], NULL));
  return done();
}
