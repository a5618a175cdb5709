/* Processor time of children: of one that had ended before a checkpoint and is waited for behind it, and of one that goes
   on. wait4(2) says what they have used in all their lives, and so do the times of the children. */
#include "steps.h"
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/wait.h>

enum { FIRST_MS = 300 };

static long long used(int who) {
  struct rusage u;
  CHECK(getrusage(who, &u) == 0);
  return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000LL + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static void burn(int ms) {
  for (long long start = used(RUSAGE_SELF); used(RUSAGE_SELF) - start < ms * 1000LL;) continue;
}

static long long whole(const struct rusage *u) {
  return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000LL + u->ru_utime.tv_usec + u->ru_stime.tv_usec;
}

static pid_t child_that_ends(void) {
  pid_t pid = fork();
  if (pid == 0) {
    burn(FIRST_MS);
    _exit(5);
  }
  CHECK(pid > 0);
  return pid;
}

/* What the kernel says of a child that has ended, which stays. */
static struct rusage of_ended(pid_t pid) {
  siginfo_t info;
  struct rusage u;
  CHECK(syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOWAIT, &u) == 0 && info.si_pid == pid);
  return u;
}

/* Waits for a child, whose time comes to that of all children. */
static long long await(pid_t pid) {
  int status;
  struct rusage u;
  long long before = used(RUSAGE_CHILDREN);
  CHECK(wait4(pid, &status, 0, &u) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
  long long more = used(RUSAGE_CHILDREN) - before;
  if (llabs(more - whole(&u)) > 10) FAIL("wait4 says %lld us, the children's grow by %lld", whole(&u), more);
  return whole(&u);
}

int main(void) {
  int question[2], answer[2];
  long long last = 0, said;
  char byte = 0;
  struct tms t;
  CHECK(pipe(question) == 0 && pipe(answer) == 0);
  pid_t worker = fork();
  if (worker == 0) {
    burn(FIRST_MS);
    CHECK(read(question[0], &byte, 1) == 1);
    burn(FIRST_MS / 10);
    said = used(RUSAGE_SELF);
    CHECK(write(answer[1], &said, sizeof said) == sizeof said);
    _exit(5);
  }
  pid_t ended = child_that_ends(), quiet = child_that_ends();
  struct rusage first = of_ended(ended), second = of_ended(quiet);
  for (long n = 1; !stopping(); n++) {
    long long now = used(RUSAGE_CHILDREN);
    CHECK(now >= last && times(&t) != -1 && (t.tms_cutime + t.tms_cstime + 2) * 10000 >= now);
    last = now;
    step("main", n);
    rest(20);
  }
  long long by_ended = await(ended);
  if (by_ended != whole(&first)) FAIL("the ended child has used %lld us, and then %lld", whole(&first), by_ended);
  last = used(RUSAGE_CHILDREN);
  CHECK(waitpid(quiet, NULL, 0) == quiet);
  if (llabs(used(RUSAGE_CHILDREN) - last - whole(&second)) > 10) FAIL("waitpid forgets what the child has used");
  CHECK(write(question[1], &byte, 1) == 1 && read(answer[0], &said, sizeof said) == sizeof said);
  long long by_worker = await(worker);
  if (by_worker < said - 40000 || by_worker > said + 400000 || said < FIRST_MS * 1100)
    FAIL("the child says that it has used %lld us, wait4 %lld", said, by_worker);
  return done();
}
