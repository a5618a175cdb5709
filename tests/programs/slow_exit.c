/* A plugin whose hook for EXIT takes long: the program is stopped inside of it, and comes back inside of it. What the program
   has (its id, a pipe with a byte in it, the offset of a file) is looked at in each step. */
#include "dmtcp.h"
#include "steps.h"

static void hook(DmtcpEvent_t event, DmtcpEventData_t *data) {
  (void)data;
  if (event != DMTCP_EVENT_EXIT) return;
  pid_t own = getpid();
  int ends[2], file = open("/proc/self/exe", O_RDONLY);
  CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1 && file >= 0 && lseek(file, 1234, SEEK_SET) == 1234);
  for (long n = 1; !stopping(); n++) {
    char byte = 0;
    CHECK(getpid() == own);
    CHECK(read(ends[0], &byte, 1) == 1 && byte == 'x' && write(ends[1], "x", 1) == 1);
    CHECK(lseek(file, 0, SEEK_CUR) == 1234);
    step("main", n);
    rest(10);
  }
  done();
}

static DmtcpPluginDescriptor_t plugin = {DMTCP_PLUGIN_API_VERSION, DMTCP_PACKAGE_VERSION, "slow-exit", "tests", "tests",
                                         "takes long to leave", hook};
DMTCP_DECL_PLUGIN(plugin)
