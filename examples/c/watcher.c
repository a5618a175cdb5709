/* A plugin in C that says what the program does with descriptors, threads, forks and programs. rust/watcher is the same in Rust.
 *
 *   gcc -shared -fPIC -I../../include watcher.c -o watcher.so
 *   dmtcp_launch --with-plugin ./watcher.so PROGRAM
 *
 * Hooks of these events run on the thread of the program that does it, at any time.
 */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dmtcp.h"

static void say(const char *what, int one, int two, const char *path)
{
  char line[512] = "watcher.c: ";

  strcat(line, what);
  if (one >= 0) {
    snprintf(line + strlen(line), sizeof line - strlen(line), " %d", one);
  }
  if (two >= 0) {
    snprintf(line + strlen(line), sizeof line - strlen(line), " %d", two);
  }
  if (path) {
    snprintf(line + strlen(line), sizeof line - strlen(line) - 1, " %s", path);
  }
  strcat(line, "\n");
  ssize_t written = write(STDERR_FILENO, line, strlen(line));
  (void)written;
}

static void on_event(DmtcpEvent_t event, DmtcpEventData_t *data)
{
  static const char word[] = "word of watcher.c\n";
  static const char *variable = "WATCHED=yes";
  size_t count;
  ssize_t written;

  switch (event) {
  case DMTCP_EVENT_OPEN_FD: say("open", data->openFd.fd, -1, data->openFd.path); break;
  case DMTCP_EVENT_REOPEN_FD: say("reopen", data->reopenFd.fd, -1, data->reopenFd.path); break;
  case DMTCP_EVENT_CLOSE_FD: say("close", data->closeFd.fd, -1, NULL); break;
  case DMTCP_EVENT_DUP_FD: say("dup", data->dupFd.oldFd, data->dupFd.newFd, NULL); break;
  case DMTCP_EVENT_PTHREAD_START: say("thread starts", -1, -1, NULL); break;
  case DMTCP_EVENT_PTHREAD_RETURN: say("thread returns", -1, -1, NULL); break;
  case DMTCP_EVENT_PTHREAD_EXIT: say("thread exits", -1, -1, NULL); break;
  case DMTCP_EVENT_ATFORK_PREPARE: say("fork begins", -1, -1, NULL); break;
  case DMTCP_EVENT_ATFORK_PARENT: say("forked", -1, -1, NULL); break;
  case DMTCP_EVENT_ATFORK_FAILED: say("fork failed", -1, -1, NULL); break;
  case DMTCP_EVENT_VFORK_PREPARE: say("vfork begins", -1, -1, NULL); break;
  case DMTCP_EVENT_VFORK_PARENT: say("vforked", -1, -1, NULL); break;
  case DMTCP_EVENT_VFORK_CHILD: say("vfork's child", -1, -1, NULL); break;
  case DMTCP_EVENT_VFORK_FAILED: say("vfork failed", -1, -1, NULL); break;
  case DMTCP_EVENT_THREAD_RESUME: say("thread resumes", (int)syscall(SYS_gettid), -1, NULL); break;
  case DMTCP_EVENT_PRE_EXEC:
    say("exec", -1, -1, data->preExec.filename);
    written = write(data->preExec.serializationFd, word, sizeof word - 1);
    (void)written;
    /* A variable more for the new program. */
    for (count = 0; data->preExec.envp[count]; count++) {
    }
    if (count < data->preExec.maxEnv) {
      data->preExec.envp[count] = variable;
      data->preExec.envp[count + 1] = NULL;
    }
    break;
  case DMTCP_EVENT_POST_EXEC: say("executed", -1, -1, NULL); break;
  default: break;
  }
}

static DmtcpPluginDescriptor_t plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "watcher",
  "Your name",
  "you@example.org",
  "says what the program does",
  on_event
};

DMTCP_DECL_PLUGIN(plugin)
