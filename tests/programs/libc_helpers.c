/* What libc does by threads that it makes for itself: asynchronous files (aio), names looked up meanwhile (getaddrinfo_a).
   Each is asked for again in each step, waited for in several ways, and its result compared. */
#include "steps.h"
#include <aio.h>
#include <netdb.h>
#include <semaphore.h>

enum { SIZE = 8192, PARTS = 4 };

static sem_t told;

static void tells(union sigval value) {
  if (value.sival_int == 7) sem_post(&told);
}

static void await(struct aiocb *request) {
  const struct aiocb *list[1] = {request};
  while (aio_error(request) == EINPROGRESS) CHECK(aio_suspend(list, 1, NULL) == 0);
  CHECK(aio_error(request) == 0 && aio_return(request) == SIZE);
}

static void *files(void *arg) {
  static char out[PARTS][SIZE], in[PARTS][SIZE];
  /* Its content belongs to the image, that of a file does not. */
  int fd = memfd_create("asynchronous", 0);
  CHECK(fd >= 0);
  for (long n = 1; !stopping(); n++) {
    struct aiocb writes[PARTS], reads[PARTS], *list[PARTS];
    memset(writes, 0, sizeof writes), memset(reads, 0, sizeof reads);
    for (int i = 0; i < PARTS; i++) {
      memset(out[i], (char)(n + i), SIZE);
      writes[i].aio_fildes = reads[i].aio_fildes = fd;
      writes[i].aio_offset = reads[i].aio_offset = i * SIZE;
      writes[i].aio_buf = out[i], reads[i].aio_buf = in[i];
      writes[i].aio_nbytes = reads[i].aio_nbytes = SIZE;
      writes[i].aio_sigevent.sigev_notify = SIGEV_NONE;
      reads[i].aio_lio_opcode = LIO_READ, list[i] = &reads[i];
    }
    /* The last one is told by a thread of libc's. */
    writes[PARTS - 1].aio_sigevent.sigev_notify = SIGEV_THREAD;
    writes[PARTS - 1].aio_sigevent.sigev_notify_function = tells;
    writes[PARTS - 1].aio_sigevent.sigev_value.sival_int = 7;
    for (int i = 0; i < PARTS; i++) CHECK(aio_write(&writes[i]) == 0);
    CHECK(sem_wait(&told) == 0);
    for (int i = 0; i < PARTS; i++) await(&writes[i]);
    CHECK(lio_listio(LIO_WAIT, list, PARTS, NULL) == 0);
    for (int i = 0; i < PARTS; i++) {
      await(&reads[i]);
      CHECK(memcmp(in[i], out[i], SIZE) == 0);
    }
    step("files", n);
    if (n % 50 == 0) rest(2000); /* Libc's threads end when they have had nothing to do for a second. */
  }
  CHECK(close(fd) == 0);
  return arg;
}

static void *names(void *arg) {
  for (long n = 1; !stopping(); n++) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct gaicb first = {.ar_name = "127.0.0.1", .ar_service = "80", .ar_request = &hints};
    struct gaicb second = {.ar_name = "::1", .ar_service = "81", .ar_request = &hints};
    struct gaicb *list[2] = {&first, &second};
    const struct gaicb *one[1] = {&second};
    CHECK(getaddrinfo_a(n % 2 ? GAI_WAIT : GAI_NOWAIT, list, 2, NULL) == 0);
    while (gai_error(&second) == EAI_INPROGRESS) {
      int rc = gai_suspend(one, 1, NULL);
      CHECK(rc == 0 || rc == EAI_ALLDONE);
    }
    while (gai_error(&first) == EAI_INPROGRESS) rest(1);
    CHECK(gai_error(&first) == 0 && gai_error(&second) == 0);
    CHECK(first.ar_result->ai_family == AF_INET && second.ar_result->ai_family == AF_INET6);
    freeaddrinfo(first.ar_result), freeaddrinfo(second.ar_result);
    step("names", n);
    rest(10);
  }
  return arg;
}

int main(void) {
  pthread_t threads[2];
  CHECK(sem_init(&told, 0, 0) == 0);
  OK(pthread_create(&threads[0], NULL, files, NULL));
  OK(pthread_create(&threads[1], NULL, names, NULL));
  for (int i = 0; i < 2; i++) OK(pthread_join(threads[i], NULL));
  return done();
}
