/* Memory that takes a while to be written: argv[1] MiB that hardly compress, checked all the time. */
#include "steps.h"

int main(int argc, char **argv) {
  size_t words = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) * 131072;
  const char *name = argc > 2 ? argv[2] : "main";
  uint64_t *memory = malloc(words * 8), state = 1;
  CHECK(memory);
  for (size_t i = 0; i < words; i++) memory[i] = random_number(&state) << 32 | i;
  for (long n = 1; !stopping(); n++) {
    for (size_t i = (size_t)n % 4096; i < words; i += 4096) CHECK((uint32_t)memory[i] == (uint32_t)i);
    step(name, n);
    rest(5);
  }
  return done();
}
