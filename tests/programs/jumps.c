/* Handlers with flags that are seldom used, and ways out of them that are not a return: siglongjmp, setcontext, swapcontext
   between stacks, an alternate stack that disarms itself, a handler that is taken away by its first signal. */
#include "steps.h"
#include <setjmp.h>
#include <sys/wait.h>
#include <ucontext.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
enum { STACK = 64 << 10 };

static sigjmp_buf jump;
static ucontext_t context, back, other;
static volatile sig_atomic_t once, nested, depth, most, own_stack;
static char *stack;

static void out_by_jump(int sig) { siglongjmp(jump, sig); }

static void out_by_context(int sig) {
  (void)sig;
  setcontext(&context);
  FAIL("setcontext has returned");
}

static void only_once(int sig) { (void)sig, once++; }

/* It interrupts itself, since it does not block its signal. */
static void nests(int sig) {
  if (++depth > most) most = depth;
  nested++;
  if (depth < 4) CHECK(raise(sig) == 0);
  depth--;
}

static void *disarmed_stack;

/* While it runs, the alternate stack is nobody's. */
static void disarmed(int sig) {
  stack_t now;
  char here;
  (void)sig;
  CHECK(sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE));
  own_stack += &here >= (char *)disarmed_stack && &here < (char *)disarmed_stack + STACK;
}

static void action(int sig, void (*handler)(int), int flags) {
  struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
  sigemptyset(&a.sa_mask);
  CHECK(sigaction(sig, &a, NULL) == 0);
}

static int coroutine_steps;

static void coroutine(void) {
  for (;;) {
    coroutine_steps++;
    rest(3);
    CHECK(swapcontext(&other, &back) == 0);
  }
}

static void *contexts(void *arg) {
  CHECK(getcontext(&other) == 0);
  other.uc_stack.ss_sp = malloc(STACK), other.uc_stack.ss_size = STACK, other.uc_link = NULL;
  makecontext(&other, coroutine, 0);
  for (long n = 1; !stopping(); n++) {
    CHECK(swapcontext(&back, &other) == 0 && coroutine_steps == n);
    step("contexts", n);
    rest(5);
  }
  return arg;
}

static void *on_disarmed_stack(void *arg) {
  disarmed_stack = malloc(STACK);
  stack_t alternate = {.ss_sp = disarmed_stack, .ss_size = STACK, .ss_flags = (int)SS_AUTODISARM}, now;
  CHECK(sigaltstack(&alternate, NULL) == 0);
  for (long n = 1; !stopping(); n++) {
    OK(pthread_kill(pthread_self(), SIGWINCH));
    CHECK(own_stack == n);
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == disarmed_stack && now.ss_size == STACK);
    CHECK((unsigned)now.ss_flags == SS_AUTODISARM);
    step("disarmed", n);
    rest(10);
  }
  return arg;
}

int main(void) {
  pthread_t threads[2];
  sigset_t mask;
  stack = malloc(STACK);
  stack_t alternate = {.ss_sp = stack, .ss_size = STACK}, now;
  CHECK(sigaltstack(&alternate, NULL) == 0);
  action(SIGUSR1, out_by_jump, SA_ONSTACK), action(SIGUSR2, out_by_context, 0), action(SIGURG, nests, SA_NODEFER);
  action(SIGWINCH, disarmed, SA_ONSTACK), action(SIGCHLD, SIG_DFL, SA_NOCLDWAIT | SA_NOCLDSTOP);
  OK(pthread_create(&threads[0], NULL, contexts, NULL));
  OK(pthread_create(&threads[1], NULL, on_disarmed_stack, NULL));
  for (volatile long n = 1; !stopping(); n++) {
    if (sigsetjmp(jump, 1) == 0) {
      OK(pthread_kill(pthread_self(), SIGUSR1));
      FAIL("the handler has returned");
    }
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == stack && now.ss_flags == 0);
    volatile int second = 0;
    CHECK(getcontext(&context) == 0);
    if (!second) {
      second = 1;
      OK(pthread_kill(pthread_self(), SIGUSR2));
      FAIL("the handler has returned");
    }
    OK(pthread_sigmask(SIG_BLOCK, NULL, &mask));
    CHECK(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGUSR2));
    nested = most = 0;
    OK(pthread_kill(pthread_self(), SIGURG));
    CHECK(nested == 4 && most == 4 && depth == 0);
    /* Taken away by its first signal: the next would be ignored. */
    if (n % 2) action(SIGCONT, only_once, (int)SA_RESETHAND);
    OK(pthread_kill(pthread_self(), SIGCONT));
    CHECK(once == (n + 1) / 2);
    struct sigaction is;
    CHECK(sigaction(SIGCONT, NULL, &is) == 0 && is.sa_handler == SIG_DFL);
    CHECK(sigaction(SIGCHLD, NULL, &is) == 0 && (is.sa_flags & ~0x04000000) == (SA_NOCLDWAIT | SA_NOCLDSTOP));
    pid_t child = fork();
    if (child == 0) _exit(0);
    CHECK(child > 0 && waitpid(child, NULL, 0) == -1 && errno == ECHILD);
    step("main", n);
    rest(10);
  }
  OK(pthread_join(threads[0], NULL));
  OK(pthread_join(threads[1], NULL));
  return done();
}
