/* Reads a file by a name that exists for this program only; sees that all functions agree on the name. */
#include "steps.h"

#define NAME "/nowhere/data"

int main(void) {
  char last[64] = "";
  CHECK(chdir("/nowhere") == 0);
  for (long n = 1; !stopping(); n++) {
    char line[64] = "", path[4096], link[64];
    FILE *file = fopen(NAME, "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL && fclose(file) == 0);
    line[strcspn(line, "\n")] = 0;
    if (strcmp(line, last) != 0) note("value %s", strcpy(last, line));

    struct stat status;
    CHECK(stat(NAME, &status) == 0 && S_ISREG(status.st_mode) && access(NAME, R_OK) == 0);
    int fd = open(NAME, O_RDONLY);
    CHECK(fd >= 0 && close(fd) == 0 && access("data", R_OK) == 0);
    char *found = realpath(NAME, NULL);
    CHECK(found != NULL && strcmp(found, NAME) == 0);
    free(found);
    CHECK(getcwd(path, sizeof path) == path && strcmp(path, "/nowhere") == 0);
    CHECK(symlink(NAME, "/nowhere/link") == 0);
    ssize_t length = readlink("/nowhere/link", link, sizeof link);
    CHECK(length == (ssize_t)strlen(NAME) && memcmp(link, NAME, length) == 0);
    CHECK(rename("/nowhere/link", "/nowhere/moved") == 0 && unlink("/nowhere/moved") == 0);
    char template[] = "/nowhere/x.XXXXXX";
    fd = mkstemp(template);
    CHECK(fd >= 0 && close(fd) == 0 && strstr(template, "XXXXXX") == NULL && unlink(template) == 0);
    CHECK(open("/nowhereelse", O_RDONLY) < 0 && errno == ENOENT);

    step("main", n);
    rest(10);
  }
  return done();
}
