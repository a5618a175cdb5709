/* Threads out of the ordinary: detached, on stacks of the smallest size, cancelled in every kind of cancellation point,
   asynchronously too, and made by raw clone(2) and clone3(2) past libc. */
#include "steps.h"
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/select.h>
#include <sys/wait.h>

static int over;
static int empty[2];
static sem_t never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static __thread long mine = 4;

static int is_over(void) { return __atomic_load_n(&over, __ATOMIC_SEQ_CST); }

static void *steady(void *arg) {
  for (long n = 1; !is_over(); n++) {
    CHECK(mine == 3 + n);
    mine++;
    step(arg, n);
    rest(10);
  }
  return arg;
}

static sem_t gone;

static void *detached(void *arg) {
  steady(arg);
  CHECK(sem_post(&gone) == 0);
  return NULL;
}

static void unlock(void *m) { OK(pthread_mutex_unlock(m)); }

enum { READ, PAUSE, SLEEP, SEM, COND, POLL, SELECT, SIGWAIT, SUSPEND, BUSY, KINDS };

static void *blocked(void *arg) {
  char byte;
  int sig;
  sigset_t set;
  sigemptyset(&set), sigaddset(&set, SIGUSR1);
  struct pollfd p = {empty[0], POLLIN, 0};
  fd_set fds;
  FD_ZERO(&fds);
  FD_SET(empty[0], &fds);
  switch ((long)arg) {
  case READ: CHECK(read(empty[0], &byte, 1) == -2); break;
  case PAUSE: CHECK(pause() == -2); break;
  case SLEEP: CHECK(sleep(3600) == 0); break;
  case SEM: CHECK(sem_wait(&never) == -2); break;
  case COND:
    OK(pthread_mutex_lock(&mutex));
    pthread_cleanup_push(unlock, &mutex);
    OK(pthread_cond_wait(&cond, &mutex));
    pthread_cleanup_pop(1);
    break;
  case POLL: CHECK(poll(&p, 1, -1) == -2); break;
  case SELECT: CHECK(select(empty[0] + 1, &fds, NULL, NULL, NULL) == -2); break;
  case SIGWAIT: CHECK(sigwait(&set, &sig) == -2); break;
  case SUSPEND: CHECK(sigsuspend(&set) == -2); break;
  case BUSY:
    OK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL));
    for (;;) __asm__ volatile("" ::: "memory");
  }
  FAIL("call %ld has returned", (long)arg);
}

static void *cancels(void *arg) {
  pthread_t thread;
  void *result;
  for (long n = 1; !is_over(); n++) {
    OK(pthread_create(&thread, NULL, blocked, (void *)(n % KINDS)));
    rest(20);
    OK(pthread_cancel(thread));
    OK(pthread_join(thread, &result));
    CHECK(result == PTHREAD_CANCELED);
    step("cancels", n);
  }
  return arg;
}

/* All kinds at once wait from the beginning, and are cancelled at the end. */
static pthread_t waiting[KINDS];

/* Without a thread pointer of their own these share the variables of the thread that made them, and call nothing. */
static volatile long beats[2];
static int tid_words[2] = {1, 1};

static long raw(long number, long a, long b, long c, long d, long e) {
  long result;
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = 0;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static __attribute__((noreturn, used)) void raw_life(long me) {
  struct timespec t = {0, 5000000};
  while (!is_over()) {
    if (raw(SYS_nanosleep, (long)&t, 0, 0, 0, 0) != 0) raw(SYS_exit_group, 96, 0, 0, 0, 0);
    beats[me]++;
  }
  for (;;) raw(SYS_exit, 0, 0, 0, 0, 0);
}

enum { STACK = 64 << 10 };

__attribute__((naked, noinline)) static long raw_clone(MAYBE_UNUSED long number, MAYBE_UNUSED long a, MAYBE_UNUSED long b,
                                                       MAYBE_UNUSED long c, MAYBE_UNUSED long d, MAYBE_UNUSED long me) {
  __asm__("mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n mov %r8,%r10\n push %r9\n xor %r8d,%r8d\n"
          "pop %r9\n syscall\n test %rax,%rax\n jz 1f\n ret\n 1: mov %r9,%rdi\n and $-16,%rsp\n call raw_life\n");
}

static void make_raw(void) {
  long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  char *stacks = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(stacks != MAP_FAILED);
  static struct clone_args args;
  args.flags = (unsigned long)flags | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID;
  args.stack = (unsigned long)stacks, args.stack_size = STACK, args.child_tid = (unsigned long)&tid_words[0];
  CHECK(raw_clone(SYS_clone3, (long)&args, sizeof args, 0, 0, 0) > 0);
  CHECK(raw_clone(SYS_clone, flags | CLONE_CHILD_CLEARTID, (long)stacks + 2 * STACK, 0, (long)&tid_words[1], 1) > 0);
}

int main(void) {
  pthread_t small, given, cancelling;
  pthread_attr_t attr;
  void *result;
  CHECK(pipe(empty) == 0 && sem_init(&never, 0, 0) == 0 && sem_init(&gone, 0, 0) == 0);
  OK(pthread_attr_init(&attr));
  OK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED));
  OK(pthread_create(&small, &attr, detached, "detached"));
  OK(pthread_attr_destroy(&attr));
  OK(pthread_attr_init(&attr));
  OK(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN));
  OK(pthread_create(&small, &attr, steady, "small"));
  void *memory;
  OK(posix_memalign(&memory, 4096, PTHREAD_STACK_MIN));
  OK(pthread_attr_setstack(&attr, memory, PTHREAD_STACK_MIN));
  OK(pthread_create(&given, &attr, steady, "given"));
  OK(pthread_create(&cancelling, NULL, cancels, NULL));
  for (long i = 0; i < KINDS; i++)
    if (i != BUSY) OK(pthread_create(&waiting[i], NULL, blocked, (void *)i));
  make_raw();
  for (long n = 1; !stopping(); n++) {
    long before[2] = {beats[0], beats[1]};
    while (beats[0] == before[0] || beats[1] == before[1]) rest(5);
    CHECK(__atomic_load_n(&tid_words[0], __ATOMIC_SEQ_CST) && __atomic_load_n(&tid_words[1], __ATOMIC_SEQ_CST));
    step("raw", n);
  }
  __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < KINDS; i++) {
    if (i == BUSY) continue;
    OK(pthread_cancel(waiting[i]));
    OK(pthread_join(waiting[i], &result));
    CHECK(result == PTHREAD_CANCELED);
  }
  OK(pthread_join(small, NULL));
  OK(pthread_join(given, NULL));
  OK(pthread_join(cancelling, NULL));
  CHECK(sem_wait(&gone) == 0);
  /* The kernel clears the words of threads that have ended. */
  for (int i = 0; i < 2; i++)
    for (int tid; (tid = __atomic_load_n(&tid_words[i], __ATOMIC_SEQ_CST)) != 0;) {
      struct timespec t = {0, 50000000};
      syscall(SYS_futex, &tid_words[i], FUTEX_WAIT, tid, &t, NULL, 0);
    }
  return done();
}
