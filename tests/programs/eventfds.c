/* Event counters: a value in waiting, an empty one that a thread is blocked on, a semaphore. */
#include "steps.h"
#include <semaphore.h>
#include <sys/eventfd.h>

static int empty;
static sem_t taken;

static void *blocked(void *arg) {
  for (long n = 1;; n++) {
    uint64_t value;
    CHECK(read(empty, &value, 8) == 8);
    if (value == 1000) return arg;
    CHECK(value == 3);
    step("blocked", n);
    CHECK(sem_post(&taken) == 0);
  }
}

int main(void) {
  pthread_t thread;
  uint64_t value;
  int counter = eventfd(41, EFD_NONBLOCK | EFD_CLOEXEC), semaphore = eventfd(5, EFD_SEMAPHORE);
  int huge = eventfd(0, EFD_NONBLOCK), same = dup(counter);
  empty = eventfd(0, 0);
  CHECK(sem_init(&taken, 0, 0) == 0);
  CHECK(counter >= 0 && semaphore >= 0 && empty >= 0 && huge >= 0 && same >= 0);
  value = UINT64_MAX - 1;
  CHECK(write(huge, &value, 8) == 8);
  OK(pthread_create(&thread, NULL, blocked, NULL));
  for (long n = 1; !stopping(); n++) {
    value = 1;
    CHECK(write(same, &value, 8) == 8);
    rest(8);
    CHECK(read(counter, &value, 8) == 8 && value == 42);
    CHECK(read(counter, &value, 8) < 0 && errno == EAGAIN);
    value = 41;
    CHECK(write(counter, &value, 8) == 8);
    CHECK(read(semaphore, &value, 8) == 8 && value == 1);
    value = 1;
    CHECK(write(semaphore, &value, 8) == 8);
    CHECK(write(huge, &value, 8) < 0 && errno == EAGAIN);
    CHECK(fcntl(counter, F_GETFD) == FD_CLOEXEC && fcntl(semaphore, F_GETFD) == 0);
    value = 3;
    CHECK(write(empty, &value, 8) == 8);
    CHECK(sem_wait(&taken) == 0);
    step("main", n);
    rest(8);
  }
  /* The semaphore still holds its five. */
  CHECK(fcntl(semaphore, F_SETFL, O_NONBLOCK) == 0);
  for (int i = 0; i < 5; i++) CHECK(read(semaphore, &value, 8) == 8);
  CHECK(read(semaphore, &value, 8) < 0 && errno == EAGAIN);
  rest(50);
  value = 1000;
  CHECK(write(empty, &value, 8) == 8);
  OK(pthread_join(thread, NULL));
  return done();
}
