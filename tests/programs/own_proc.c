/* What /proc says about a process, its threads and its child: their ids stand in files, in names and in lists. */
#include "steps.h"
#include <dirent.h>
#include <sys/wait.h>

/* A look that a restart falls into may see ids of both sides; the next one does not. */
#define SEEN(condition) CHECK((condition) || (condition))

static pid_t pid, parent, child, tid;
static int over;

/* Fields of a stat file, by their numbers in proc(5). */
static long field(int dir, const char *path, int wanted) {
  char text[1024];
  int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (n <= 0) FAIL("%s cannot be read (errno %d)", path, errno);
  text[n] = 0;
  CHECK(read(fd, text + n, 1) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
  close(fd);
  if (wanted == 1) return atol(text);
  char *at = strrchr(text, ')') + 2;
  for (int i = 3; i < wanted; i++) at = strchr(at, ' ') + 1;
  return atol(at);
}

static void check_stat(int dir, const char *path, pid_t own, pid_t its_parent) {
  CHECK(field(dir, path, 1) == own && field(dir, path, 4) == its_parent);
  SEEN(field(dir, path, 5) == getpgrp() && field(dir, path, 6) == getsid(0));
}

/* The number behind a name in a file of lines. */
static long line(const char *path, const char *name) {
  char text[256], found[64];
  long value = -1, seen;
  FILE *file = fopen(path, "re");
  CHECK(file);
  while (fgets(text, sizeof text, file))
    if (sscanf(text, "%63s %ld", found, &seen) == 2 && !strcmp(found, name)) value = seen;
  fclose(file);
  return value;
}

/* How often an id is among the names in a directory. */
static int listed(const char *path, pid_t id) {
  DIR *dir = opendir(path);
  struct dirent *entry;
  int count = 0;
  CHECK(dir);
  while ((entry = readdir(dir))) count += atoi(entry->d_name) == id;
  closedir(dir);
  struct dirent **all;
  int length = scandir(path, &all, NULL, alphasort), scanned = 0, raw = 0;
  CHECK(length > 0);
  for (int i = 0; i < length; i++) {
    CHECK(i == 0 || strcoll(all[i - 1]->d_name, all[i]->d_name) <= 0);
    scanned += atoi(all[i]->d_name) == id;
  }
  while (length-- > 0) free(all[length]);
  free(all);
  char buffer[512];
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK(fd >= 0);
  for (ssize_t filled; (filled = getdents64(fd, buffer, sizeof buffer)) != 0;) {
    CHECK(filled > 0);
    for (ssize_t at = 0; at < filled; at += ((struct dirent64 *)(buffer + at))->d_reclen)
      raw += atoi(((struct dirent64 *)(buffer + at))->d_name) == id;
  }
  close(fd);
  return count == scanned && count == raw ? count : -1;
}

static int locks_of(pid_t id) {
  char text[256];
  int count = 0, holder;
  FILE *file = fopen("/proc/locks", "re");
  CHECK(file);
  while (fgets(text, sizeof text, file)) count += sscanf(text, "%*s POSIX %*s %*s %d", &holder) == 1 && holder == id;
  fclose(file);
  return count;
}

/* What a command says; -1: nothing. */
static long said(const char *command, pid_t id) {
  char text[256];
  snprintf(text, sizeof text, command, id);
  FILE *stream = popen(text, "r");
  CHECK(stream);
  long number = fgets(text, sizeof text, stream) ? atol(text) : -1;
  int ended = pclose(stream);
  CHECK(WIFEXITED(ended) && (ended == 0) == (number != -1));
  return number;
}

static void *thread(void *arg) {
  tid = gettid();
  pthread_barrier_wait(arg);
  while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) rest(20);
  return NULL;
}

int main(void) {
  char path[64];
  pthread_t t;
  pthread_barrier_t ready;
  int status;
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 7, .l_len = 3};
  int file = open(in_dir("ranges"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK(file >= 0 && fcntl(file, F_SETLK, &range) == 0);
  pid = getpid();
  CHECK((child = fork()) >= 0);
  if (!child) {
    parent = pid;
    while (!stopping()) {
      CHECK(line("/proc/self/status", "PPid:") == parent);
      rest(20);
    }
    _exit(3);
  }
  OK(pthread_barrier_init(&ready, NULL, 2));
  OK(pthread_create(&t, NULL, thread, &ready));
  pthread_barrier_wait(&ready);
  for (long n = 1; !stopping(); n++) {
    parent = getppid();
    check_stat(AT_FDCWD, "/proc/self/stat", pid, parent);
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "%d/stat", child);
    check_stat(proc, path, child, pid);
    close(proc);
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    check_stat(AT_FDCWD, path, tid, parent);
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    CHECK(line(path, "Tgid:") == pid && line(path, "Pid:") == tid && line(path, "PPid:") == parent);
    SEEN(listed("/proc/self/task", tid) == 1 && listed("/proc/self/task", pid) == 1);
    SEEN(listed("/proc", pid) == 1 && listed("/proc", child) == 1);
    SEEN(locks_of(pid) >= 1);
    int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    CHECK(pidfd >= 0 && line(path, "Pid:") == child);
    close(pidfd);
    CHECK(said("ps -o ppid= -q %d", child) == pid);
    SEEN(said("pgrep -o -P %d", pid) == child);
    CHECK(said("cut -d' ' -f4 /proc/%d/stat", child) == pid);
    step("proc", n);
  }
  __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 3);
  OK(pthread_join(t, NULL));
  return done();
}
