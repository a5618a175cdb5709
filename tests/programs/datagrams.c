/* Sends itself datagrams: one that is lost is sent again. The address, the number, its duplicate and its flags stay. */
#include "steps.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

int main(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, now;
  socklen_t length = sizeof at;
  int number = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  CHECK(number >= 0 && bind(number, (struct sockaddr *)&at, sizeof at) == 0);
  CHECK(getsockname(number, (struct sockaddr *)&at, &length) == 0);
  int other = dup(number);
  CHECK(other >= 0);
  for (long n = 1; !stopping(); n++) {
    long heard = 0;
    while (heard != n) {
      struct pollfd one = {other, POLLIN, 0};
      CHECK(sendto(number, &n, sizeof n, 0, (struct sockaddr *)&at, sizeof at) == sizeof n);
      if (poll(&one, 1, 100) == 1) CHECK(recv(other, &heard, sizeof heard, 0) == sizeof heard && heard <= n);
    }
    length = sizeof now;
    CHECK(getsockname(number, (struct sockaddr *)&now, &length) == 0);
    CHECK(now.sin_port == at.sin_port && now.sin_addr.s_addr == at.sin_addr.s_addr);
    CHECK(fcntl(number, F_GETFD) == FD_CLOEXEC && fcntl(other, F_GETFD) == 0);
    CHECK(fcntl(number, F_GETFL) & O_NONBLOCK);
    step("main", n);
    rest(10);
  }
  return done();
}
