/* A plugin in C whose processes find each other: at every checkpoint, and after every restart, each publishes its pid,
 * waits until all have done so, and looks the others up. rust/phone-book is the same in Rust; they find each other, too.
 *
 *   gcc -shared -fPIC -I../../include phone_book.c -o phone_book.so
 *   dmtcp_launch --with-plugin ./phone_book.so PROGRAM
 *   dmtcp_launch --with-plugin ./phone_book.so ANOTHER_PROGRAM
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dmtcp.h"

static void find_each_other(const char *when)
{
  char book[64], key[32], value[32], line[512];
  int64_t number = 0, count = 0, other;

  /* A book for each generation: what was published for the one before is still there. */
  snprintf(book, sizeof book, "/plugin/phone_book/%u", (unsigned)dmtcp_get_generation());
  /* Adding is one step: no two processes get one number. The answer is the number of before. */
  if (dmtcp_kvdb_request64(DMTCP_KVDB_INCRBY, book, "count", 1, &number) != DMTCP_KVDB_SUCCESS) {
    return;
  }
  snprintf(key, sizeof key, "process %d", (int)number);
  snprintf(value, sizeof value, "%d", (int)getpid());
  dmtcp_kvdb_set(book, key, value);
  /* From here on everybody's number is in the book. */
  dmtcp_global_barrier("phone_book: published");
  dmtcp_kvdb_get64(book, "count", &count);
  snprintf(line, sizeof line, "phone_book: %s: %s finds", when, value);
  for (other = 0; other < count; other++) {
    snprintf(key, sizeof key, "process %d", (int)other);
    if (dmtcp_kvdb_get(book, key, value, sizeof value) == DMTCP_KVDB_SUCCESS) {
      snprintf(line + strlen(line), sizeof line - strlen(line), " %s", value);
    }
  }
  snprintf(line + strlen(line), sizeof line - strlen(line), "\n");
  ssize_t written = write(STDERR_FILENO, line, strlen(line));
  (void)written;
}

static void on_event(DmtcpEvent_t event, DmtcpEventData_t *data)
{
  (void)data;
  switch (event) {
  case DMTCP_EVENT_PRECHECKPOINT: find_each_other("checkpoint"); break;
  case DMTCP_EVENT_RESTART: find_each_other("restart"); break;
  default: break;
  }
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "phone_book",
  "Your name",
  "you@example.org",
  "lets processes find each other",
  on_event
};

DMTCP_DECL_PLUGIN(plugin)
