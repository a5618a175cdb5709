/* Notes the variables that a restart is to change, whenever one of them does. */
#include "steps.h"

static void note_change(const char *name, char *last) {
  const char *value = getenv(name);
  if (value == NULL) value = "(unset)";
  if (strcmp(value, last) != 0) note("value %s %s", name, strcpy(last, value));
}

int main(void) {
  char first[200] = "", second[200] = "";
  for (long n = 1; !stopping(); n++) {
    note_change("FIRST", first);
    note_change("SECOND", second);
    step("main", n);
    rest(10);
  }
  return done();
}
