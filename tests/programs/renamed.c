/* Reads a file by a name that exists for this program only; sees that all functions agree on the name. NAMED is the
 * directory's name, or it is /nowhere. */
#include "steps.h"

static const char *below(const char *name) {
  static char paths[8][64];
  static int next;
  const char *directory = getenv("NAMED");
  char *path = paths[next++ % 8];
  snprintf(path, sizeof paths[0], "%s%s", directory ? directory : "/nowhere", name);
  return path;
}

int main(void) {
  char last[64] = "";
  CHECK(chdir(below("")) == 0);
  for (long n = 1; !stopping(); n++) {
    char line[64] = "", path[4096], link[256];
    const char *name = below("/data");
    FILE *file = fopen(name, "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL && fclose(file) == 0);
    line[strcspn(line, "\n")] = 0;
    if (strcmp(line, last) != 0) note("value %s", strcpy(last, line));

    struct stat status;
    CHECK(stat(name, &status) == 0 && S_ISREG(status.st_mode) && access(name, R_OK) == 0);
    int fd = open(name, O_RDONLY);
    CHECK(fd >= 0 && close(fd) == 0 && access("data", R_OK) == 0);
    char *found = realpath(name, NULL);
    CHECK(found != NULL && strcmp(found, name) == 0);
    free(found);
    CHECK(getcwd(path, sizeof path) == path && strcmp(path, below("")) == 0);
    /* The file system's own name is longer, and would not fit. */
    memset(path, '#', sizeof path);
    size_t exact = strlen(below("")) + 1;
    CHECK(getcwd(path, exact) == path && strcmp(path, below("")) == 0 && path[exact] == '#');
    CHECK(getcwd(path, exact - 1) == NULL && errno == ERANGE && getcwd(path, 0) == NULL && errno == EINVAL);
    /* A restart goes back to before a link that is still there. */
    CHECK(unlink(below("/link")) == 0 || errno == ENOENT);
    CHECK(symlink(name, below("/link")) == 0);
    ssize_t length = readlink(below("/link"), link, sizeof link);
    CHECK(length == (ssize_t)strlen(name) && memcmp(link, name, length) == 0);
    memset(link, '#', sizeof link);
    length = readlink(below("/link"), link, strlen(name) - 1);
    CHECK(length == (ssize_t)strlen(name) - 1 && memcmp(link, name, length) == 0 && link[length] == '#');
    CHECK(readlink(below("/link"), link, 0) == -1 && errno == EINVAL);
    CHECK(rename(below("/link"), below("/moved")) == 0 && unlink(below("/moved")) == 0);
    char template[64];
    strcpy(template, below("/x.XXXXXX"));
    fd = mkstemp(template);
    CHECK(fd >= 0 && close(fd) == 0 && strstr(template, "XXXXXX") == NULL && unlink(template) == 0);
    CHECK(open("/nowhereelse", O_RDONLY) < 0 && errno == ENOENT);

    step("main", n);
    rest(10);
  }
  return done();
}
