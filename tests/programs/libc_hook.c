/* A plugin in C whose hooks use libc as if the program were not stopped. */
#include <stdio.h>
#include <stdlib.h>

#include "dmtcp.h"

static void on_event(DmtcpEvent_t event, DmtcpEventData_t *data)
{
  int i;

  (void)data;
  if (event < DMTCP_EVENT_PRECHECKPOINT || event > DMTCP_EVENT_RESTART) {
    return;
  }
  for (i = 0; i < 200; i++) {
    free(malloc(3000 + i * 300));
  }
  setenv("FROM_HOOK", "1", 1);
  fprintf(stderr, "libc_hook: %d\n", (int)event);
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION, DMTCP_PACKAGE_VERSION, "libc_hook", "", "", "uses libc in hooks", on_event
};

DMTCP_DECL_PLUGIN(plugin)
