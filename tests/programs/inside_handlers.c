/* Threads that live inside of signal handlers: on an alternate stack, nested, leaving by siglongjmp and setcontext. */
#include "steps.h"
#include <setjmp.h>
#include <ucontext.h>

enum { ALT = 65536 };

static char *alt;
static volatile int over;
static volatile sig_atomic_t nested;
static sigjmp_buf back;
static ucontext_t here;
static volatile int came_back;

static void on_nested(int sig) { (void)sig, nested++; }

static int on_alt(void) {
  char here_is;
  return &here_is >= alt && &here_is < alt + ALT;
}

/* The whole life of the thread, but for its beginning and its end. */
static void on_alternate_stack(int sig, siginfo_t *info, void *context) {
  ucontext_t *uc = context;
  stack_t now;
  char pattern[4096];
  (void)sig;
  memset(pattern, 0x5a, sizeof pattern);
  CHECK(info->si_value.sival_int == 4711 && on_alt());
  CHECK(uc->uc_stack.ss_sp == alt && uc->uc_stack.ss_size == ALT);
  for (long n = 1; !stopping(); n++) {
    CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == alt && now.ss_size == ALT && now.ss_flags == SS_ONSTACK);
    int before = nested;
    OK(pthread_kill(pthread_self(), SIGUSR2));
    CHECK(nested == before + 1);
    for (size_t i = 0; i < sizeof pattern; i++) CHECK(pattern[i] == 0x5a);
    sigset_t mask;
    OK(pthread_sigmask(SIG_BLOCK, NULL, &mask));
    CHECK(sigismember(&mask, SIGRTMIN + 1) && sigismember(&mask, SIGTERM) && !sigismember(&mask, SIGUSR2));
    step("altstack", n);
    rest(10);
  }
}

static void *lives_in_a_handler(void *arg) {
  alt = malloc(ALT);
  stack_t stack = {.ss_sp = alt, .ss_size = ALT}, now;
  CHECK(sigaltstack(&stack, NULL) == 0);
  OK(pthread_sigqueue(pthread_self(), SIGRTMIN + 1, (union sigval){.sival_int = 4711}));
  sigset_t mask;
  OK(pthread_sigmask(SIG_BLOCK, NULL, &mask));
  CHECK(!sigismember(&mask, SIGRTMIN + 1) && !on_alt());
  CHECK(sigaltstack(NULL, &now) == 0 && now.ss_flags == 0 && now.ss_sp == alt);
  return arg;
}

static void jumps(int sig) {
  (void)sig;
  rest(5);
  siglongjmp(back, 1);
}

static void *leaves_by_siglongjmp(void *arg) {
  for (volatile long n = 1; !stopping(); n++) {
    if (sigsetjmp(back, 1) == 0) {
      OK(pthread_kill(pthread_self(), SIGALRM));
      FAIL("the handler returned");
    }
    sigset_t mask;
    OK(pthread_sigmask(SIG_BLOCK, NULL, &mask));
    CHECK(!sigismember(&mask, SIGALRM));
    step("siglongjmp", n);
    rest(5);
  }
  return arg;
}

static void sets_context(int sig) {
  (void)sig;
  came_back++;
  setcontext(&here);
}

static void *leaves_by_setcontext(void *arg) {
  for (volatile long n = 1; !stopping(); n++) {
    volatile int before = came_back;
    CHECK(getcontext(&here) == 0);
    if (came_back == before) OK(pthread_kill(pthread_self(), SIGVTALRM));
    CHECK(came_back == before + 1);
    step("setcontext", n);
    rest(10);
  }
  return arg;
}

int main(void) {
  pthread_t threads[3];
  struct sigaction action = {.sa_sigaction = on_alternate_stack, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask), sigaddset(&action.sa_mask, SIGTERM);
  CHECK(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
  signal(SIGUSR2, on_nested), signal(SIGALRM, jumps), signal(SIGVTALRM, sets_context);
  OK(pthread_create(&threads[0], NULL, lives_in_a_handler, NULL));
  OK(pthread_create(&threads[1], NULL, leaves_by_siglongjmp, NULL));
  OK(pthread_create(&threads[2], NULL, leaves_by_setcontext, NULL));
  for (int i = 0; i < 3; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
