/* A library whose numbers are somebody else's: a ticket is a file in the directory that the file $TICKET_SERVER names. After a
   restart that is another directory, which knows nothing of the numbers of the first. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int path_of(long ticket, char *path, size_t room) {
  char directory[256] = "";
  FILE *file = fopen(getenv("TICKET_SERVER"), "r");
  if (!file) return -1;
  char *line = fgets(directory, sizeof directory, file);
  fclose(file);
  directory[strcspn(directory, "\n")] = 0;
  return line && snprintf(path, room, "%s/%ld", directory, ticket) > 0 ? 0 : -1;
}

long ticket_take(void) {
  char path[320];
  for (long ticket = 0; ticket < 1000 && path_of(ticket, path, sizeof path) == 0; ticket++) {
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd >= 0) {
      close(fd);
      return ticket;
    }
  }
  return -1;
}

int ticket_use(long ticket) {
  char path[320];
  return path_of(ticket, path, sizeof path) == 0 ? access(path, F_OK) : -1;
}

int ticket_give(long ticket) {
  char path[320];
  return path_of(ticket, path, sizeof path) == 0 ? unlink(path) : -1;
}
