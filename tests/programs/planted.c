/* A plugin that breaks the rules: its hook of one event calls libc. It is written against the frozen tables of
   plugin-api/src/abi.rs, in C, and so shows that they are what they were. */
#include <stdint.h>
#include <stdlib.h>

struct plugin {
  uint32_t abi, size, core_size;
  int32_t priority;
  const char *name, *version;
  const char *const *requirements;
  const void *wrappers;
  size_t wrapper_lists;
  const void *(*next_symbol)(const char *, const char *);
  int32_t (*init)(const void *core);
  int32_t (*on_event)(uint32_t event, void *data);
};

static const void *next_symbol(const char *name, const char *version) {
  (void)name;
  (void)version;
  return NULL;
}

static int32_t init(const void *core) { return core == NULL; }

static int32_t on_event(uint32_t event, void *data) {
  (void)data;
  if (event == PLANTED_EVENT) setenv("PLANTED", "1", 1);
  return 0;
}

/* A run of no wrappers. */
static const void *const no_wrappers[2];

const struct plugin dmtcp_plugin_v1 = {
  1, sizeof(struct plugin), 8, 50, "planted", "1", NULL, no_wrappers, 0, next_symbol, init, on_event,
};
