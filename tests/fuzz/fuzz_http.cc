// SPDX-License-Identifier: Apache-2.0
// Bytes of a connection -> requests, as the server reads them: head, who asks, body (sized or in
// chunks), the next head. What arrives in pieces must be read as what arrives at once. The linker
// gives the calls of recv, send and close to the functions here (--wrap, CMakeLists.txt): a socket
// for each input would cost more than all that is read from it.
#include <sys/types.h>

#include <algorithm>
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

// What the peer sent and the connection has not read; `piece` bytes arrive at a time. Behind the
// last the peer has closed.
struct Peer {
  std::string_view bytes;
  size_t piece = 0;
};
Peer peer;

constexpr uint64_t kMaxBodyBytes = 1 << 20;

struct Read {
  std::string method;
  std::string target;
  std::string body;
  bool operator==(const Read&) const = default;
};

// The head in the first `end` bytes of unread(), and its body. False: nothing can follow.
bool ReadOne(Connection& connection, size_t end, Read* out) {
  RequestHead head;
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
  BodyReader reader(connection, head, {kMaxBodyBytes, std::chrono::seconds(1)}, memory);
  if (head.method != "POST") {  // a route that does not look at its body
    reader.SkipShort();
    return reader.finished();
  }
  Result<std::string> body = reader.Read();
  if (!body.ok()) return false;
  IDEFICS_CHECK(reader.finished() && body->size() <= kMaxBodyBytes);
  out->body = *std::move(body);
  return true;
}

// As the event loop reads, which waits for a whole head and judges what there is of it.
std::vector<Read> ReadAll(std::string_view bytes, size_t piece) {
  peer = {bytes, piece};
  Connection connection(-1);
  std::vector<Read> all;
  for (;;) {
    const size_t end = FindHeadEnd(connection.unread(), connection.num_scanned);
    if (end == std::string_view::npos) {
      IDEFICS_CHECK(FindHeadEnd(connection.unread()) == std::string_view::npos);
      connection.num_scanned = connection.unread().size();
      if (CheckPartialHead(connection.unread(), {})) return all;
      if (!connection.ReadAvailable(piece)) return all;
      continue;
    }
    Read one;
    if (!ReadOne(connection, end, &one)) return all;
    all.push_back(std::move(one));
  }
}

}  // namespace
}  // namespace idefics

extern "C" ssize_t __wrap_recv(int, void* buffer, size_t size, int) {
  auto& peer = idefics::peer;
  const size_t count = std::min({size, peer.bytes.size(), peer.piece});
  std::copy_n(peer.bytes.data(), count, static_cast<char*>(buffer));
  peer.bytes.remove_prefix(count);
  return static_cast<ssize_t>(count);
}

extern "C" ssize_t __wrap_send(int, const void*, size_t size, int) {
  return static_cast<ssize_t>(size);
}

extern "C" int __wrap_close(int) { return 0; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto whole = idefics::ReadAll(bytes, bytes.size());
  // The first byte of the input says how large the pieces are: some of a few bytes, some of a part.
  const size_t piece = data[0] < 16 ? data[0] : bytes.size() * data[0] / 256;
  IDEFICS_CHECK(idefics::ReadAll(bytes, std::max<size_t>(piece, 1)) == whole);
  return 0;
}
