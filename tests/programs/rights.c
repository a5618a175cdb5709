/* What each thread may do: ids, groups, capabilities, securebits. As root, threads give different rights away; each step
   looks whether they still have just those that they had then. */
#include "steps.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

enum { MOST_GROUPS = 200, NOBODY = 65534 };

struct rights {
  uid_t users[4];
  gid_t groups[4], others[MOST_GROUPS];
  int count, secure_bits, early, dumpable, signal;
  struct __user_cap_data_struct sets[2];
  unsigned long ambient, bounding;
};

static void look(struct rights *now) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  memset(now, 0, sizeof *now);
  CHECK(getresuid(&now->users[0], &now->users[1], &now->users[2]) == 0);
  CHECK(getresgid(&now->groups[0], &now->groups[1], &now->groups[2]) == 0);
  now->users[3] = (uid_t)setfsuid((uid_t)-1), now->groups[3] = (gid_t)setfsgid((gid_t)-1);
  CHECK((now->count = getgroups(MOST_GROUPS, now->others)) >= 0);
  CHECK(syscall(SYS_capget, &header, now->sets) == 0);
  CHECK((now->secure_bits = prctl(PR_GET_SECUREBITS)) >= 0 && (now->early = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0)) >= 0);
  for (unsigned long i = 0; i < 64; i++) {
    now->ambient |= (unsigned long)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) << i;
    now->bounding |= (unsigned long)(prctl(PR_CAPBSET_READ, i) == 1) << i;
  }
  CHECK((now->dumpable = prctl(PR_GET_DUMPABLE)) >= 0 && prctl(PR_GET_PDEATHSIG, &now->signal) == 0);
}

static void keep_only(unsigned effective, unsigned permitted, unsigned inheritable) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2] = {{effective, permitted, inheritable}, {0, 0, 0}};
  CHECK(syscall(SYS_capset, &header, sets) == 0);
}

/* The calls of libc would change all threads. */
static void take_away(void) {
  gid_t groups[100];
  for (gid_t i = 0; i < 50; i++) groups[i] = 1000 + i;
  CHECK(syscall(SYS_setgroups, 50, groups) == 0);
  CHECK(syscall(SYS_setresgid, 7, 0, 9) == 0 && syscall(SYS_setresuid, NOBODY, 0, 1234) == 0);
  CHECK(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME) == 0);
  keep_only(1 << CAP_CHOWN | 1 << CAP_SETPCAP, 1 << CAP_CHOWN | 1 << CAP_SETPCAP | 1 << CAP_KILL, 1 << CAP_KILL);
  CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS) == 0);
}

static void give_up_all(void) {
  CHECK(syscall(SYS_setgroups, 0, NULL) == 0);
  CHECK(syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) == 0 && syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) == 0);
}

static volatile int dropping;
static pthread_barrier_t changed, dumpable;

static void await_others(void) {
  pthread_barrier_wait(&changed);
  pthread_barrier_wait(&dumpable);
}

static void compare(const struct rights *before) {
  struct rights now;
  look(&now);
  CHECK(memcmp(now.users, before->users, sizeof now.users) == 0);
  CHECK(memcmp(now.groups, before->groups, sizeof now.groups) == 0);
  CHECK(now.count == before->count && memcmp(now.others, before->others, sizeof now.others) == 0);
  CHECK(memcmp(now.sets, before->sets, sizeof now.sets) == 0);
  CHECK(now.secure_bits == before->secure_bits && now.ambient == before->ambient);
  /* In a user namespace an ordinary thread's is full, and means nothing. */
  CHECK(now.bounding == before->bounding || !dropping);
  CHECK(now.dumpable == before->dumpable && now.signal == before->signal && now.early == before->early);
}

static volatile long poor_beats;

/* It may not even write to the log. */
static void *poor(void *arg) {
  struct rights before;
  give_up_all();
  CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
  await_others();
  look(&before);
  while (!stopping()) {
    compare(&before);
    poor_beats++;
    rest(10);
  }
  return arg;
}

static void *odd(void *arg) {
  struct rights before;
  if (dropping) take_away();
  CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) == 0);
  CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR2) == 0);
  await_others();
  look(&before);
  for (long n = 1; !stopping(); n++) {
    compare(&before);
    step("odd", n);
    rest(10);
  }
  return arg;
}

int main(void) {
  pthread_t threads[2];
  struct rights before;
  dropping = geteuid() == 0;
  if (dropping) {
    gid_t groups[3] = {5, 6, 70000};
    CHECK(setgroups(3, groups) == 0 && setegid(4) == 0);
  }
  OK(pthread_barrier_init(&changed, NULL, dropping ? 3 : 2));
  OK(pthread_barrier_init(&dumpable, NULL, dropping ? 3 : 2));
  OK(pthread_create(&threads[0], NULL, odd, NULL));
  if (dropping) OK(pthread_create(&threads[1], NULL, poor, NULL));
  pthread_barrier_wait(&changed);
  /* The kernel takes it away with a user id. */
  CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
  pthread_barrier_wait(&dumpable);
  look(&before);
  for (long n = 1; !stopping(); n++) {
    long beats = poor_beats;
    compare(&before);
    while (dropping && poor_beats == beats && !stopping()) rest(5);
    step("main", n);
    rest(10);
  }
  OK(pthread_join(threads[0], NULL));
  if (dropping) OK(pthread_join(threads[1], NULL));
  return done();
}
