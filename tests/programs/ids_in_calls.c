/* Ids that calls take and give beside the usual ones: rights of all threads, functions of timers, credentials in messages,
   System V objects, owners and locks of files, tracing, scheduling, clocks. Much of that must not be cut by a checkpoint: it
   is done when the test asks for it (by a file), between two of them. */
#include "steps.h"
#include <dirent.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { THREADS = 3 };
static pid_t pid, child, tid[THREADS];
static pthread_barrier_t ready, asked, answered;
static int over;
static volatile long told = 4711;

/* What each thread must have as users and groups. */
static struct { uid_t users[3]; gid_t groups[3], more[2]; int count; } wanted;

/* Past libc, which might remember. */
static void check_rights(void) {
  uid_t u[3];
  gid_t g[3], more[64];
  CHECK(syscall(SYS_getresuid, &u[0], &u[1], &u[2]) == 0 && memcmp(u, wanted.users, sizeof u) == 0);
  CHECK(syscall(SYS_getresgid, &g[0], &g[1], &g[2]) == 0 && memcmp(g, wanted.groups, sizeof g) == 0);
  long count = syscall(SYS_getgroups, 64, more);
  CHECK(wanted.count < 0 || (count == wanted.count && memcmp(more, wanted.more, count * sizeof *more) == 0));
}

static void *worker(void *arg) {
  tid[(long)arg] = gettid();
  pthread_barrier_wait(&ready);
  for (;;) {
    pthread_barrier_wait(&asked);
    if (over) return arg;
    check_rights();
    pthread_barrier_wait(&answered);
  }
}

static void everywhere(void) {
  pthread_barrier_wait(&asked);
  check_rights();
  pthread_barrier_wait(&answered);
}

static void *rights_of_a_new_thread(void *arg) {
  check_rights();
  return arg;
}

static void rights(void) {
  CHECK(getresuid(&wanted.users[0], &wanted.users[1], &wanted.users[2]) == 0);
  CHECK(getresgid(&wanted.groups[0], &wanted.groups[1], &wanted.groups[2]) == 0);
  wanted.count = -1;
  everywhere();
  if (geteuid() != 0) {
    CHECK(setuid(getuid()) == 0 && setgid(getgid()) == 0 && setreuid(-1, getuid()) == 0);
    CHECK(setgroups(0, NULL) == -1 && errno == EPERM);
    CHECK(setuid(1) == -1 && (errno == EPERM || errno == EINVAL));
    everywhere();
    return;
  }
  gid_t before[64], more[2] = {31, 32};
  int count = getgroups(64, before);
  CHECK(count >= 0);
  CHECK(setgroups(2, more) == 0);
  memcpy(wanted.more, more, sizeof more), wanted.count = 2;
  everywhere();
  CHECK(setresgid(5, 6, 7) == 0);
  memcpy(wanted.groups, (gid_t[]){5, 6, 7}, sizeof wanted.groups);
  everywhere();
  CHECK(setegid(7) == 0 && setresuid(9, -1, -1) == 0);
  wanted.groups[1] = 7, wanted.users[0] = 9;
  everywhere();
  pthread_t thread;
  OK(pthread_create(&thread, NULL, rights_of_a_new_thread, NULL));
  OK(pthread_join(thread, NULL));
  CHECK(initgroups("root", 33) == 0);
  wanted.count = -1;
  CHECK(getgroups(64, before) > 0);
  everywhere();
  CHECK(setregid(8, 9) == 0);
  memcpy(wanted.groups, (gid_t[]){8, 9, 9}, sizeof wanted.groups);
  everywhere();
  CHECK(setgid(0) == 0 && setuid(0) == 0 && setgroups(0, NULL) == 0);
  memset(&wanted, 0, sizeof wanted);
  everywhere();
}

static sem_t called;

static void on_call(union sigval value) { CHECK(value.sival_int == 77 && sem_post(&called) == 0); }

static void function_of_a_timer(void) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_call, .sigev_value.sival_int = 77};
  struct itimerspec soon = {{0, 0}, {0, 1000000}};
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &soon, NULL) == 0);
  CHECK(sem_wait(&called) == 0 && timer_delete(timer) == 0);
}

static void credentials(void) {
  int pair[2], on = 1;
  char byte = 'x';
  union { char bytes[CMSG_SPACE(sizeof(struct ucred))]; struct cmsghdr head; } control;
  struct ucred mine = {pid, geteuid(), getegid()}, peer, *told_by;
  socklen_t length = sizeof peer;
  CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
  CHECK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == pid);
  CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  for (int way = 0; way < 3; way++) {
    struct iovec part = {&byte, 1};
    struct mmsghdr message = {{NULL, 0, &part, 1, control.bytes, sizeof control, 0}, 0};
    control.head = (struct cmsghdr){CMSG_LEN(sizeof mine), SOL_SOCKET, SCM_CREDENTIALS};
    memcpy(CMSG_DATA(&control.head), &mine, sizeof mine);
    if (way == 0) CHECK(sendmsg(pair[0], &message.msg_hdr, 0) == 1);
    if (way == 1) CHECK(sendmmsg(pair[0], &message, 1, 0) == 1 && message.msg_len == 1);
    if (way == 2) CHECK(write(pair[0], &byte, 1) == 1);
    CHECK(way == 2 || memcmp(CMSG_DATA(&control.head), &mine, sizeof mine) == 0);
    memset(&control, 0, sizeof control);
    if (way == 1) CHECK(recvmmsg(pair[1], &message, 1, 0, NULL) == 1);
    else CHECK(recvmsg(pair[1], &message.msg_hdr, 0) == 1);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message.msg_hdr);
    CHECK(head && head->cmsg_type == SCM_CREDENTIALS);
    told_by = (struct ucred *)CMSG_DATA(head);
    if (told_by->pid != pid) FAIL("message %d is from %d, not from %d", way, told_by->pid, pid);
  }
  close(pair[0]), close(pair[1]);
}

static void objects(void) {
  struct { long kind; char text[8]; } message = {1, "text"};
  struct shmid_ds memory;
  struct msqid_ds queue;
  struct sembuf up = {0, 1, 0};
  int id = shmget(IPC_PRIVATE, 4096, 0600);
  CHECK(id >= 0);
  void *at = shmat(id, NULL, 0);
  CHECK(at != (void *)-1 && shmctl(id, IPC_STAT, &memory) == 0 && memory.shm_cpid == pid && memory.shm_lpid == pid);
  CHECK(shmdt(at) == 0 && shmctl(id, IPC_RMID, NULL) == 0);
  CHECK((id = msgget(IPC_PRIVATE, 0600)) >= 0 && msgsnd(id, &message, sizeof message.text, 0) == 0);
  CHECK(msgctl(id, IPC_STAT, &queue) == 0 && queue.msg_lspid == pid && queue.msg_lrpid == 0);
  CHECK(msgrcv(id, &message, sizeof message.text, 0, 0) == sizeof message.text);
  CHECK(msgctl(id, IPC_STAT, &queue) == 0 && queue.msg_lrpid == pid && msgctl(id, IPC_RMID, NULL) == 0);
  CHECK((id = semget(IPC_PRIVATE, 1, 0600)) >= 0 && semop(id, &up, 1) == 0);
  CHECK(semctl(id, 0, GETPID) == pid && semctl(id, 0, GETVAL) == 1 && semctl(id, 0, IPC_RMID) == 0);
}

static void owners_and_locks(void) {
  int ends[2];
  struct f_owner_ex owner = {F_OWNER_TID, tid[1]}, now;
  CHECK(pipe(ends) == 0 && fcntl(ends[0], F_SETOWN_EX, &owner) == 0 && fcntl(ends[0], F_GETOWN_EX, &now) == 0);
  CHECK(now.type == F_OWNER_TID && now.pid == tid[1]);
  CHECK(fcntl(ends[0], F_SETOWN, child) == 0 && fcntl(ends[0], F_GETOWN) == child);
  close(ends[0]), close(ends[1]);
  int file = open(in_dir("locked"), O_RDWR);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  CHECK(file >= 0 && fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid == child);
  close(file);
}

static void others(void) {
  struct timespec time;
  clockid_t clock;
  cpu_set_t cpus;
  struct rlimit limit;
  char attributes[64] = {0};
  long copy = 0;
  struct iovec here = {&copy, sizeof copy}, there = {(void *)&told, sizeof told};
  CHECK(clock_getcpuclockid(child, &clock) == 0 && clock_gettime(clock, &time) == 0);
  CHECK(process_vm_readv(child, &here, 1, &there, 1, 0) == sizeof copy && copy == 4711);
  CHECK(getpgid(child) == getpgrp() && getsid(child) == getsid(0) && prlimit(child, RLIMIT_NOFILE, NULL, &limit) == 0);
  errno = 0;
  CHECK(getpriority(PRIO_PROCESS, child) >= 0 && errno == 0);
  CHECK(syscall(SYS_kcmp, pid, child, KCMP_VM, 0, 0) > 0 && syscall(SYS_kcmp, pid, pid, KCMP_VM, 0, 0) == 0);
  int pidfd = syscall(SYS_pidfd_open, child, 0);
  CHECK(pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0);
  close(pidfd);
  for (int i = 0; i < THREADS; i++) {
    CHECK(sched_getaffinity(tid[i], sizeof cpus, &cpus) == 0 && sched_getscheduler(tid[i]) == SCHED_OTHER);
    CHECK(syscall(SYS_sched_getattr, tid[i], attributes, sizeof attributes, 0) == 0);
    CHECK(syscall(SYS_ioprio_get, 1, tid[i]) >= 0);
  }
  int found = 0, more = 0;
  DIR *tasks = opendir("/proc/self/task");
  CHECK(tasks);
  for (struct dirent *entry; (entry = readdir(tasks));)
    for (int i = 0; i < THREADS; i++) found += atoi(entry->d_name) == tid[i], more += atoi(entry->d_name) == pid;
  closedir(tasks);
  CHECK(found == THREADS && more == THREADS);
}

static void tracing(void) {
  int status;
  siginfo_t info;
  unsigned long message;
  CHECK(prctl(PR_SET_PTRACER, child) == prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY));
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, child};
  struct __user_cap_data_struct data[2];
  CHECK(syscall(SYS_capget, &head, data) == 0 && head.pid == child);
  CHECK(ptrace(PTRACE_SEIZE, child, NULL, NULL) == 0 && ptrace(PTRACE_INTERRUPT, child, NULL, NULL) == 0);
  CHECK(waitpid(child, &status, __WALL) == child && WIFSTOPPED(status));
  errno = 0;
  CHECK(ptrace(PTRACE_PEEKDATA, child, (void *)&told, NULL) == 4711 && errno == 0);
  CHECK(ptrace(PTRACE_DETACH, child, NULL, NULL) == 0);

  /* Births among those who are traced, and who sent what stopped them. */
  pid_t *born = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(born != MAP_FAILED);
  pid_t traced = fork();
  CHECK(traced >= 0);
  if (traced == 0) {
    CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && raise(SIGSTOP) == 0);
    pid_t grandchild = fork();
    if (grandchild == 0) _exit(3);
    *born = grandchild;
    CHECK(waitpid(grandchild, &status, 0) == grandchild && WEXITSTATUS(status) == 3);
    _exit(4);
  }
  CHECK(waitpid(traced, &status, 0) == traced && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  CHECK(ptrace(PTRACE_GETSIGINFO, traced, NULL, &info) == 0 && info.si_pid == traced);
  CHECK(ptrace(PTRACE_SETOPTIONS, traced, NULL, (void *)PTRACE_O_TRACEFORK) == 0);
  CHECK(ptrace(PTRACE_CONT, traced, NULL, NULL) == 0);
  for (;;) {
    CHECK(waitpid(traced, &status, 0) == traced && WIFSTOPPED(status));
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8)) break;
    CHECK(ptrace(PTRACE_CONT, traced, NULL, (void *)(long)WSTOPSIG(status)) == 0);
  }
  CHECK(ptrace(PTRACE_GETEVENTMSG, traced, NULL, &message) == 0);
  CHECK(waitpid(message, &status, __WALL) == (pid_t)message && WIFSTOPPED(status));
  CHECK(ptrace(PTRACE_DETACH, message, NULL, NULL) == 0 && ptrace(PTRACE_DETACH, traced, NULL, NULL) == 0);
  CHECK(waitpid(traced, &status, 0) == traced && WEXITSTATUS(status) == 4);
  if (*born != (pid_t)message) FAIL("%d was born, the tracer was told of %lu", *born, message);
  CHECK(munmap(born, 4096) == 0);
}

static void childs_life(int ready) {
  int file = open(in_dir("locked"), O_RDWR | O_CREAT, 0600);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  CHECK(file >= 0 && fcntl(file, F_SETLK, &lock) == 0 && write(ready, "r", 1) == 1);
  for (long n = 1;; n++) {
    step("child", n);
    rest(20);
  }
}

int main(void) {
  pthread_t thread[THREADS];
  int ends[2], status;
  char byte;
  pid = getpid();
  CHECK(pipe(ends) == 0 && sem_init(&called, 0, 0) == 0);
  CHECK((child = fork()) >= 0);
  if (child == 0) childs_life(ends[1]);
  CHECK(read(ends[0], &byte, 1) == 1);
  close(ends[0]), close(ends[1]);
  pthread_barrier_t *all[] = {&ready, &asked, &answered};
  for (int i = 0; i < 3; i++) OK(pthread_barrier_init(all[i], NULL, THREADS + 1));
  for (long i = 0; i < THREADS; i++) OK(pthread_create(&thread[i], NULL, worker, (void *)i));
  pthread_barrier_wait(&ready);
  for (long n = 1; !stopping(); n++) {
    if (access(in_dir("ask"), F_OK) == 0) {
      rights();
      function_of_a_timer();
      credentials();
      objects();
      owners_and_locks();
      others();
      tracing();
      CHECK(unlink(in_dir("ask")) == 0);
    }
    step("main", n);
    rest(10);
  }
  over = 1;
  pthread_barrier_wait(&asked);
  for (int i = 0; i < THREADS; i++) OK(pthread_join(thread[i], NULL));
  CHECK(kill(child, SIGTERM) == 0 && waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGTERM);
  return done();
}
