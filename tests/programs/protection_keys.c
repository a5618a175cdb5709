/* Protection keys: allocated with a hole among them, on memory of every kind, with other rights in each thread. */
#include "steps.h"
#include "smaps.h"
#include <setjmp.h>

enum { PAGE = 4096, KEYS = 4, NONE = 0, EVERYTHING = 0 };

static __thread sigjmp_buf back;
static __thread volatile int fault_code, fault_key;

static void on_fault(int sig, siginfo_t *info, void *context) {
  (void)context;
  fault_code = info->si_code, fault_key = info->si_code == SEGV_PKUERR ? (int)info->si_pkey : -1;
  siglongjmp(back, sig);
}

static unsigned rights(void) {
  unsigned value, high;
  __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(value), "=d"(high) : "c"(0));
  return value;
}

static void set_rights(unsigned value) {
  __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(value), "c"(0), "d"(0) : "memory");
}

/* The key that stood before the memory; 0 if nothing did. The handler runs with rights of its own. */
static int refused(volatile char *p, int write) {
  unsigned own = rights();
  if (sigsetjmp(back, 1)) {
    set_rights(own);
    CHECK(fault_code == SEGV_PKUERR);
    return fault_key;
  }
  if (write) *p = *p;
  else (void)*p;
  return NONE;
}

static int has_key(const void *inside, int key) {
  char wanted[16];
  sprintf(wanted, " %d\n", key);
  return smaps_say(inside, "ProtectionKey:", wanted);
}

static char *memory[KEYS];
static int keys[KEYS];

static char *map(int flags) {
  char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
  CHECK(p != MAP_FAILED);
  return p;
}

static void *with_other_rights(void *arg) {
  CHECK(pkey_set(keys[0], PKEY_DISABLE_ACCESS) == 0 && pkey_set(keys[2], EVERYTHING) == 0);
  CHECK(pkey_set(keys[3], PKEY_DISABLE_WRITE) == 0);
  unsigned own = rights();
  for (long n = 1; !stopping(); n++) {
    CHECK(rights() == own);
    CHECK(refused(memory[0], 0) == keys[0] && refused(memory[2], 1) == NONE);
    CHECK(refused(memory[3], 0) == NONE && refused(memory[3], 1) == keys[3]);
    CHECK(*(long *)memory[2] == n - 1);
    *(long *)memory[2] = n;
    step("thread", n);
    rest(10);
  }
  return arg;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  pthread_t thread;
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  for (int i = 0; i < KEYS; i++) {
    keys[i] = pkey_alloc(0, 0);
    CHECK(keys[i] == i + 1);
    memory[i] = map(i == 3 ? MAP_SHARED : MAP_PRIVATE);
    strcpy(memory[i] + 64, "behind a key");
    if (i != 1) CHECK(pkey_mprotect(memory[i], PAGE, PROT_READ | PROT_WRITE, keys[i]) == 0);
  }
  CHECK(pkey_free(keys[1]) == 0);
  /* The kernel takes the free key for memory that can only be executed. */
  unsigned char *code = (unsigned char *)map(MAP_PRIVATE);
  static const unsigned char forty_two[] = {0xb8, 42, 0, 0, 0, 0xc3};
  memcpy(code, forty_two, sizeof forty_two);
  CHECK(mprotect(code, PAGE, PROT_EXEC) == 0);
  CHECK(pkey_set(keys[0], PKEY_DISABLE_WRITE) == 0 && pkey_set(keys[2], PKEY_DISABLE_ACCESS) == 0);
  OK(pthread_create(&thread, NULL, with_other_rights, NULL));
  unsigned own = rights();
  for (long n = 1; !stopping(); n++) {
    CHECK(rights() == own);
    CHECK(refused(memory[0], 0) == NONE && refused(memory[0], 1) == keys[0] && refused(memory[2], 0) == keys[2]);
    CHECK(refused(memory[1], 1) == NONE && refused(memory[3], 1) == NONE);
    for (int i = 0; i < KEYS; i++) CHECK(i == 2 || strcmp(memory[i] + 64, "behind a key") == 0);
    for (int i = 0; i < KEYS; i++) CHECK(has_key(memory[i], i == 1 ? 0 : keys[i]));
    CHECK(((int (*)(void))code)() == 42 && refused((char *)code, 0) > NONE);
    /* What is not allocated still is not; what is, is not given away. */
    int next = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    CHECK(next > keys[3] && pkey_free(next) == 0);
    own = rights();
    step("main", n);
    rest(10);
  }
  OK(pthread_join(thread, NULL));
  return done();
}
