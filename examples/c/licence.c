/* A plugin in C that saves a resource of its own: a connection to a licence server. Such a connection does not survive a
 * checkpoint, and the server may hand the licence to somebody else while nobody uses it. So it is given back before
 * a checkpoint, and taken again when the program goes on, here or wherever it is restarted.
 *
 *   gcc -shared -fPIC -I../../include licence.c -o licence.so
 *   LICENCE_SERVER=/run/licences dmtcp_launch --with-plugin ./licence.so PROGRAM
 *   LICENCE_SERVER=/run/others dmtcp_restart ckpt_*.dmtcp
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dmtcp.h"

static char server[108];
static int connection = -1;

static void say(const char *text)
{
  ssize_t written = write(STDERR_FILENO, text, strlen(text));
  (void)written;
}

static void take_licence(void)
{
  struct sockaddr_un address;

  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, server, sizeof address.sun_path - 1);
  connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) != 0 ||
      write(connection, "take\n", 5) != 5) {
    say("licence: the server does not answer\n");
    return;
  }
  say("licence: taken\n");
}

static void return_licence(void)
{
  if (connection >= 0) {
    ssize_t written = write(connection, "return\n", 7);
    (void)written;
    close(connection);
    connection = -1;
    say("licence: returned\n");
  }
}

static void on_event(DmtcpEvent_t event, DmtcpEventData_t *data)
{
  (void)data;
  switch (event) {
  case DMTCP_EVENT_INIT:
    if (getenv("LICENCE_SERVER")) {
      strncpy(server, getenv("LICENCE_SERVER"), sizeof server - 1);
    }
    take_licence();
    break;
  case DMTCP_EVENT_PRECHECKPOINT: return_licence(); break;
  case DMTCP_EVENT_RESUME: take_licence(); break;
  case DMTCP_EVENT_RESTART:
    /* The environment of dmtcp_restart, not the program's own. If it is not set there, the server is still the same. */
    dmtcp_get_restart_env("LICENCE_SERVER", server, sizeof server);
    take_licence();
    break;
  case DMTCP_EVENT_EXIT: return_licence(); break;
  default: break;
  }
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "licence",
  "Your name",
  "you@example.org",
  "returns a licence before a checkpoint and takes one after it",
  on_event
};

DMTCP_DECL_PLUGIN(plugin)
