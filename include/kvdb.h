/* kvdb.h: the values of a computation (dmtcp.h, part 4) for C++. */
#ifndef DMTCP_KVDB_H
#define DMTCP_KVDB_H

#include <string>
#include <vector>

#include "dmtcp.h"

namespace dmtcp
{
namespace kvdb
{
enum class KVDBRequest {
  GET = DMTCP_KVDB_GET,
  SET = DMTCP_KVDB_SET,
  INCRBY = DMTCP_KVDB_INCRBY,
  AND = DMTCP_KVDB_AND,
  OR = DMTCP_KVDB_OR,
  XOR = DMTCP_KVDB_XOR,
  MIN = DMTCP_KVDB_MIN,
  MAX = DMTCP_KVDB_MAX
};

enum class KVDBResponse {
  SUCCESS = DMTCP_KVDB_SUCCESS,
  INVALID_REQUEST = DMTCP_KVDB_INVALID_REQUEST,
  DB_NOT_FOUND = DMTCP_KVDB_DB_NOT_FOUND,
  KEY_NOT_FOUND = DMTCP_KVDB_KEY_NOT_FOUND,
  NOT_PRESENT = DMTCP_KVDB_NOT_PRESENT
};

/* Works on a value; `old`, which may be null, gets the one of before, "0" if there was none. */
inline KVDBResponse request(KVDBRequest what, const std::string &database, const std::string &key,
                            const std::string &value, std::string *old = nullptr)
{
  std::vector<char> room(old ? (64 << 10) + 1 : 0);
  DmtcpKvdbResponse_t response =
      dmtcp_kvdb_request(static_cast<DmtcpKvdbRequest_t>(what), database.c_str(), key.c_str(), value.c_str(),
                         old ? room.data() : nullptr, room.size());
  if (old && response == DMTCP_KVDB_SUCCESS) {
    old->assign(room.data());
  }
  return static_cast<KVDBResponse>(response);
}

inline KVDBResponse request64(KVDBRequest what, const std::string &database, const std::string &key, int64_t value,
                              int64_t *old = nullptr)
{
  return static_cast<KVDBResponse>(dmtcp_kvdb_request64(static_cast<DmtcpKvdbRequest_t>(what), database.c_str(),
                                                        key.c_str(), value, old));
}

inline KVDBResponse get(const std::string &database, const std::string &key, std::string *value)
{
  return request(KVDBRequest::GET, database, key, "", value);
}

inline KVDBResponse get64(const std::string &database, const std::string &key, int64_t *value)
{
  return request64(KVDBRequest::GET, database, key, 0, value);
}

inline KVDBResponse set(const std::string &database, const std::string &key, const std::string &value,
                        std::string *old = nullptr)
{
  return request(KVDBRequest::SET, database, key, value, old);
}

inline KVDBResponse set64(const std::string &database, const std::string &key, int64_t value, int64_t *old = nullptr)
{
  return request64(KVDBRequest::SET, database, key, value, old);
}
} // namespace kvdb
} // namespace dmtcp

#endif
