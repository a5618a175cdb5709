/* A plugin in C that keeps memory out of images: what the program has declared as scratch memory comes back as zeros.
 * rust/scratch is the same in Rust.
 *
 *   gcc -shared -fPIC -I../../include scratch.c -o scratch.so
 *   dmtcp_launch --with-plugin ./scratch.so PROGRAM
 *
 * The program declares `void scratch_memory(void *, size_t) __attribute__((weak));` and calls it if it is there.
 */
#include "dmtcp.h"

static char *start;
static size_t length;

__attribute__((visibility("default"))) void scratch_memory(void *address, size_t size)
{
  start = (char *)address;
  length = size;
}

int dmtcp_skip_memory_region_ckpting(ProcMapsArea *area)
{
  if (start + length <= area->addr || start >= area->endAddr) {
    return 0;
  }
  /* Save what lies before it; the next question is for what lies behind that. */
  if (start > area->addr) {
    area->endAddr = start;
    return 0;
  }
  if (start + length < area->endAddr) {
    area->endAddr = start + length;
  }
  return 1;
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "scratch",
  "Your name",
  "you@example.org",
  "keeps scratch memory out of images",
  NULL
};

DMTCP_DECL_PLUGIN(plugin)
