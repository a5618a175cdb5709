// A plugin as people write them for the original's interface, in C++ and with whatever the language brings: streams, containers and
// exceptions in hooks and wrappers, a wrapper of a variadic function, values, barriers, a file beside the image. It knows
// of nothing but dmtcp.h and kvdb.h.
#include "dmtcp.h"
#include "kvdb.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

using namespace dmtcp;
using kvdb::KVDBRequest;
using kvdb::KVDBResponse;

static const char *DATABASE = "/plugin/third_party";

static DmtcpMutex lock = DMTCP_MUTEX_INITIALIZER;

// Constructed late: a wrapper may come before the constructors of this library.
static std::map<std::string, int> &opened()
{
  static std::map<std::string, int> *all = new std::map<std::string, int>;
  return *all;
}

extern "C" int open(const char *path, int flags, ...)
{
  mode_t mode = 0;
  if (flags & O_CREAT) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  DMTCP_PLUGIN_DISABLE_CKPT();
  int fd = NEXT_FNC(open)(path, flags, mode);
  if (fd != -1) {
    DmtcpMutexLock(&lock);
    opened()[path]++;
    DmtcpMutexUnlock(&lock);
  }
  DMTCP_PLUGIN_ENABLE_CKPT();
  return fd;
}

static std::string saved_file()
{
  std::string directory = dmtcp_get_ckpt_files_subdir();
  mkdir(directory.c_str(), 0700);
  return directory + "/third_party.txt";
}

static std::string all_opened()
{
  std::ostringstream text;
  for (const auto &entry : opened()) {
    text << entry.first << ' ' << entry.second << '\n';
  }
  return text.str();
}

static std::string file_of_checkpoint;

static void pre_checkpoint()
{
  file_of_checkpoint = saved_file();
  std::ofstream file(file_of_checkpoint);
  file << all_opened();
  if (!file.flush()) {
    std::cerr << "third_party: cannot write " << file_of_checkpoint << std::endl;
  }
  int64_t before = 0;
  kvdb::request64(KVDBRequest::INCRBY, DATABASE, "processes", 1, &before);
  dmtcp_global_barrier("third_party::published");
  std::string text;
  if (kvdb::set(DATABASE, dmtcp_get_uniquepid_str(), "here") != KVDBResponse::SUCCESS ||
      kvdb::get(DATABASE, dmtcp_get_uniquepid_str(), &text) != KVDBResponse::SUCCESS || text != "here") {
    std::cerr << "third_party: the value is '" << text << "'" << std::endl;
  }
  dmtcp_local_barrier("third_party::looked up");
}

static void restart()
{
  std::ifstream file(file_of_checkpoint);
  std::ostringstream text;
  text << file.rdbuf();
  char value[64] = "";
  DmtcpGetRestartEnvErr_t found = dmtcp_get_restart_env("THIRD_PARTY", value, sizeof value);
  try {
    if (text.str() != all_opened()) {
      throw std::runtime_error("the file and the memory differ");
    }
    if (found != RESTART_ENV_SUCCESS) {
      throw std::runtime_error("THIRD_PARTY is not set");
    }
    std::cerr << "third_party: restarted with " << value << std::endl;
  } catch (const std::exception &error) {
    std::cerr << "third_party: " << error.what() << std::endl;
  }
}

static void third_party_event_hook(DmtcpEvent_t event, DmtcpEventData_t *data)
{
  switch (event) {
  case DMTCP_EVENT_INIT: std::cerr << "third_party: the plugin is there" << std::endl; break;
  case DMTCP_EVENT_OPEN_FD:
    if (data->openFd.fd < 0) {
      std::cerr << "third_party: a descriptor below zero" << std::endl;
    }
    break;
  case DMTCP_EVENT_PRECHECKPOINT: pre_checkpoint(); break;
  case DMTCP_EVENT_RESUME: std::cerr << "third_party: resumed" << std::endl; break;
  case DMTCP_EVENT_RESTART: restart(); break;
  case DMTCP_EVENT_EXIT:
    std::cerr << "third_party: " << (opened().empty() ? "no" : "some") << " files were opened" << std::endl;
    break;
  default: break;
  }
}

DmtcpPluginDescriptor_t third_party_plugin = {
  DMTCP_PLUGIN_API_VERSION,
  DMTCP_PACKAGE_VERSION,
  "third_party",
  "Somebody",
  "somebody@example.org",
  "Somebody else's plugin",
  third_party_event_hook
};

DMTCP_DECL_PLUGIN(third_party_plugin);
