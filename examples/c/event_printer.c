/* A plugin in C: says each event on standard error.
 *
 *   gcc -shared -fPIC -I../../include event_printer.c -o event_printer.so
 *   dmtcp_launch --with-plugin ./event_printer.so PROGRAM
 */
#include <string.h>
#include <unistd.h>

#include "dmtcp.h"

static void say(const char *event)
{
  char line[64] = "event_printer: ";
  strcat(line, event);
  strcat(line, "\n");
  /* Not printf: a stopped thread that waits for a full terminal holds the lock of stderr. */
  ssize_t written = write(STDERR_FILENO, line, strlen(line));
  (void)written;
}

static void on_event(DmtcpEvent_t event, DmtcpEventData_t *data)
{
  (void)data;
  switch (event) {
  case DMTCP_EVENT_INIT: say("INIT"); break;
  case DMTCP_EVENT_PRESUSPEND: say("PRESUSPEND"); break;
  case DMTCP_EVENT_PRECHECKPOINT: say("PRECHECKPOINT"); break;
  case DMTCP_EVENT_RESUME: say("RESUME"); break;
  case DMTCP_EVENT_RESTART: say("RESTART"); break;
  case DMTCP_EVENT_RUNNING: say("RUNNING"); break;
  case DMTCP_EVENT_EXIT: say("EXIT"); break;
  default: break;
  }
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "event_printer",
  "Your name",
  "you@example.org",
  "says each event on standard error",
  on_event
};

DMTCP_DECL_PLUGIN(plugin)
