/* Shells that libc starts, and where they would write images: each time that it is another directory, it is noted. */
#include "steps.h"
#include <wordexp.h>

static void tell(const char *way, char *seen, const char *directory) {
  if (strcmp(seen, directory) == 0) return;
  strcpy(seen, directory);
  note("%s %s", way, directory);
}

int main(void) {
  static char by_popen[500], by_system[500], by_wordexp[500], text[500];
  const char *file = strdup(in_dir("directory"));
  setenv("DIRECTORY_FILE", file, 1);
  for (long n = 1; !stopping(); n++) {
    FILE *stream;
    CHECK(system("printf %s \"$DMTCP_CHECKPOINT_DIR\" > \"$DIRECTORY_FILE\"") == 0);
    CHECK((stream = fopen(file, "re")) && fgets(text, sizeof text, stream) && fclose(stream) == 0);
    tell("system", by_system, text);
    CHECK((stream = popen("printf %s \"$DMTCP_CHECKPOINT_DIR\"", "re")) && fgets(text, sizeof text, stream));
    CHECK(pclose(stream) == 0);
    tell("popen", by_popen, text);
    wordexp_t words;
    CHECK(wordexp("$(printf %s \"$DMTCP_CHECKPOINT_DIR\")", &words, 0) == 0 && words.we_wordc == 1);
    tell("wordexp", by_wordexp, words.we_wordv[0]);
    wordfree(&words);
    step("main", n);
    rest(20);
  }
  return done();
}
