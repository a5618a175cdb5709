/* Handlers, masks, alternate stacks, pending signals: all as before, and a handler runs once per signal. */
#include "steps.h"
#include <ucontext.h>

static volatile sig_atomic_t plain, info_value, on_stack;
static char *stack;
static __thread volatile sig_atomic_t thread_hits;

static void on_plain(int sig) { (void)sig, plain++; }

static void on_info(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  info_value = info->si_value.sival_int;
}

static void on_other_stack(int sig) {
  char here;
  (void)sig;
  on_stack += &here >= stack && &here < stack + 65536;
}

static void on_thread(int sig) { (void)sig, thread_hits++; }

static void *masked(void *arg) {
  sigset_t set, old;
  sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMIN + 5);
  OK(pthread_sigmask(SIG_BLOCK, &set, NULL));
  OK(pthread_kill(pthread_self(), SIGUSR1));
  for (long n = 1; !stopping(); n++) {
    sigset_t pending;
    CHECK(thread_hits == 0);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    OK(pthread_sigmask(SIG_BLOCK, NULL, &old));
    CHECK(sigismember(&old, SIGUSR1) && sigismember(&old, SIGRTMIN + 5) && !sigismember(&old, SIGTERM));
    step("masked", n);
    rest(10);
  }
  sigdelset(&set, SIGRTMIN + 5);
  OK(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
  CHECK(thread_hits == 1);
  return arg;
}

static void action(int sig, void *handler, int flags) {
  struct sigaction sa = {.sa_flags = flags};
  sa.sa_handler = handler;
  sigemptyset(&sa.sa_mask);
  sigaddset(&sa.sa_mask, SIGHUP);
  CHECK(sigaction(sig, &sa, NULL) == 0);
}

static void check_action(int sig, void *handler, int flags) {
  struct sigaction sa;
  CHECK(sigaction(sig, NULL, &sa) == 0);
  CHECK((void *)sa.sa_handler == handler && (sa.sa_flags & ~0x04000000) == flags);
  if (handler != SIG_IGN && handler != SIG_DFL) CHECK(sigismember(&sa.sa_mask, SIGHUP));
}

int main(void) {
  pthread_t thread;
  stack = malloc(65536);
  stack_t alt = {.ss_sp = stack, .ss_size = 65536}, now;
  CHECK(sigaltstack(&alt, NULL) == 0);
  action(SIGALRM, on_plain, SA_RESTART);
  action(SIGRTMIN + 3, on_info, SA_SIGINFO);
  action(SIGUSR2, on_other_stack, SA_ONSTACK | SA_NODEFER);
  action(SIGUSR1, on_thread, 0);
  signal(SIGPIPE, SIG_IGN);
  OK(pthread_create(&thread, NULL, masked, NULL));
  for (long n = 1; !stopping(); n++) {
    CHECK(raise(SIGALRM) == 0 && plain == n);
    CHECK(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = (int)n}) == 0);
    for (int i = 0; i < 1000 && info_value != n; i++) rest(1);
    CHECK(info_value == n);
    CHECK(raise(SIGUSR2) == 0 && on_stack == n);
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == stack && now.ss_size == 65536 && now.ss_flags == 0);
    check_action(SIGALRM, on_plain, SA_RESTART);
    check_action(SIGRTMIN + 3, on_info, SA_SIGINFO);
    check_action(SIGUSR2, on_other_stack, SA_ONSTACK | SA_NODEFER);
    check_action(SIGPIPE, SIG_IGN, SA_RESTART);
    check_action(SIGTERM, SIG_DFL, 0);
    step("main", n);
    rest(10);
  }
  OK(pthread_join(thread, NULL));
  return done();
}
