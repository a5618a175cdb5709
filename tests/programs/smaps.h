/* What /proc/self/smaps says of a mapping. */
#ifndef SMAPS_H
#define SMAPS_H

/* Whether a line about the mapping that holds `inside` begins with `name` and has the text `wanted`, by one reading. */
static int read_smaps(const void *inside, const char *name, const char *wanted) {
  FILE *maps = fopen("/proc/self/smaps", "r");
  char line[512];
  int here = 0, found = 0;
  CHECK(maps);
  while (fgets(line, sizeof line, maps)) {
    unsigned long low, high;
    if (sscanf(line, "%lx-%lx ", &low, &high) == 2) here = (unsigned long)inside >= low && (unsigned long)inside < high;
    found |= here && strncmp(line, name, strlen(name)) == 0 && strstr(line, wanted) != NULL;
  }
  fclose(maps);
  return found;
}

/* A reading that was cut in two by a restart tells nothing: the text of the file is that of another process. */
static int smaps_say(const void *inside, const char *name, const char *wanted) {
  int found = 0;
  for (int i = 0; i < 3 && !found; i++) found = read_smaps(inside, name, wanted);
  return found;
}

/* Whether the mapping has a flag, as " lo". */
MAYBE_UNUSED static int has_flag(const void *inside, const char *flag) { return smaps_say(inside, "VmFlags:", flag); }

#endif
