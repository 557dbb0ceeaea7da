// SPDX-License-Identifier: Apache-2.0
// Bytes of a connection -> requests, as the server reads them: head, who asks, body (sized or in
// chunks), the next head. What arrives in two parts must be read as what arrives in one.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/ascii.h"
#include "common/check.h"
#include "server/http/body_reader.h"
#include "server/http/request_guard.h"
#include "server/http/request_head.h"

namespace idefics {
namespace {

constexpr uint64_t kMaxBodyBytes = 1 << 20;

struct Read {
  std::string method;
  std::string target;
  std::string body;
  bool good = false;
  bool operator==(const Read&) const = default;
};

// The head at the start of unread(), and its body. False: nothing can follow.
bool ReadOne(Connection& connection, Read* out) {
  RequestHead head;
  const size_t end = FindHeadEnd(connection.unread());
  if (end == std::string_view::npos) {
    CheckPartialHead(connection.unread(), {});
    return false;
  }
  if (ParseHead(connection.unread().substr(0, end), {}, &head)) return false;
  IDEFICS_CHECK(head.target.find('#') == std::string::npos);
  IDEFICS_CHECK(!HasControl(head.target, false));
  CheckCaller(head, true);
  PercentDecode(head.path());
  connection.Consume(end);
  out->method = head.method;
  out->target = head.target;
  ByteBudget budget(2 * kMaxBodyBytes);
  ByteBudget::Share memory(&budget);
  head.expect_continue = false;
  BodyReader reader(connection, head, {kMaxBodyBytes, std::chrono::seconds(1)}, memory);
  const Result<std::string> body = reader.Read();
  if (!body.ok()) return false;
  IDEFICS_CHECK(body->size() <= kMaxBodyBytes);
  out->body = *body;
  out->good = true;
  return true;
}

// `first` bytes arrive before the rest.
std::vector<Read> ReadAll(const std::string& bytes, size_t first) {
  int ends[2];
  IDEFICS_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  Connection connection(ends[0]);
  const auto put = [&](std::string_view part) {
    IDEFICS_CHECK(write(ends[1], part.data(), part.size()) == static_cast<ssize_t>(part.size()));
  };
  if (first > 0) {
    put(std::string_view(bytes).substr(0, first));
    connection.ReadAvailable(bytes.size());
  }
  put(std::string_view(bytes).substr(first));
  close(ends[1]);
  // As much as the event loop has: a head must be whole, a body need not be.
  if (FindHeadEnd(connection.unread()) == std::string_view::npos) {
    connection.ReadAvailable(bytes.size());
  }
  std::vector<Read> all;
  for (Read one; ReadOne(connection, &one); one = {}) {
    all.push_back(one);
    connection.ReadAvailable(bytes.size());
  }
  return all;
}

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = idefics::ReadAll(bytes, 0);
  IDEFICS_CHECK(idefics::ReadAll(bytes, bytes.size() * data[0] / 256) == whole);
  return 0;
}
