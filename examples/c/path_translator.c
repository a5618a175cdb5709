/* A plugin in C that gives files of the program another place: /shown/... is $TRANSLATED/..., both ways.
 *
 *   gcc -shared -fPIC -I../../include path_translator.c -o path_translator.so
 *   TRANSLATED=/srv/data dmtcp_launch --pathvirt --with-plugin ./path_translator.so PROGRAM
 *
 * Hooks of these events run on the thread of the program that uses the path. They come only with --pathvirt.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "dmtcp.h"

static const char shown[] = "/shown";

/* Another beginning for a path that has the first one, if it fits. */
static void replace(char *path, const char *from, const char *to)
{
  size_t before = strlen(from), after = strlen(to), rest;

  if (strncmp(path, from, before) != 0 || (path[before] != '/' && path[before] != '\0')) {
    return;
  }
  rest = strlen(path + before) + 1;
  if (after + rest <= PATH_MAX) {
    memmove(path + after, path + before, rest);
    memcpy(path, to, after);
  }
}

static void on_event(DmtcpEvent_t event, DmtcpEventData_t *data)
{
  const char *real = getenv("TRANSLATED");

  if (!real) {
    return;
  }
  switch (event) {
  case DMTCP_EVENT_VIRTUAL_TO_REAL_PATH: replace(data->virtualToRealPath.path, shown, real); break;
  case DMTCP_EVENT_REAL_TO_VIRTUAL_PATH: replace(data->realToVirtualPath.path, real, shown); break;
  default: break;
  }
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "path_translator",
  "Your name",
  "you@example.org",
  "gives files another place",
  on_event
};

DMTCP_DECL_PLUGIN(plugin)
