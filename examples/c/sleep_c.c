/* A wrapper in C: says that the program sleeps, and calls the next wrapper of sleep, at last libc's.
 *
 *   gcc -shared -fPIC -I../../include sleep_c.c -o sleep_c.so
 *   dmtcp_launch --with-plugin ./sleep_c.so PROGRAM
 */
#include <string.h>
#include <unistd.h>

#include "dmtcp.h"

unsigned int sleep(unsigned int seconds)
{
  static const char line[] = "sleep_c: before\n";
  ssize_t written = write(STDERR_FILENO, line, strlen(line));
  (void)written;
  return NEXT_FNC(sleep)(seconds);
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "sleep_c",
  "Your name",
  "you@example.org",
  "says when the program sleeps",
  NULL
};

DMTCP_DECL_PLUGIN(plugin)
