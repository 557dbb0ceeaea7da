// SPDX-License-Identifier: Apache-2.0
#include "server/http/response_writer.h"

#include <httplib.h>

#include <array>
#include <charconv>
#include <utility>

namespace idefics {
namespace {

void AppendStatusLine(int status, std::string* out) {
  *out += "HTTP/1.1 " + std::to_string(status) + " " + httplib::status_message(status) + "\r\n";
}

void AppendHeader(std::string_view name, std::string_view value, std::string* out) {
  *out += name;
  *out += ": ";
  *out += value;
  *out += "\r\n";
}

// Content-Length or Transfer-Encoding, and Connection where HTTP's default is another.
std::string HeadBytes(const HttpResponse& response, const RequestHead& head, bool keep_alive) {
  std::string out;
  AppendStatusLine(response.status, &out);
  for (const auto& [name, value] : response.headers) AppendHeader(name, value, &out);
  if (!response.stream) {
    AppendHeader("Content-Length", std::to_string(response.body.size()), &out);
  } else if (!head.http_1_0) {
    AppendHeader("Transfer-Encoding", "chunked", &out);
  }
  if (!keep_alive) AppendHeader("Connection", "close", &out);
  if (keep_alive && head.http_1_0) AppendHeader("Connection", "keep-alive", &out);
  return out + "\r\n";
}

// Pieces of a streamed body, each a chunk; as they are for HTTP/1.0.
class StreamWriter final : public BodyWriter {
 public:
  StreamWriter(Connection& connection, bool chunked, std::chrono::milliseconds stall)
      : connection_(connection), chunked_(chunked), stall_(stall) {}

  bool Write(std::string_view piece) override {
    if (!ok_ || piece.empty()) return ok_;
    if (!chunked_) return ok_ = connection_.WriteAll(piece, stall_);
    std::array<char, 16> size;
    const auto end = std::to_chars(size.data(), size.data() + size.size(), piece.size(), 16).ptr;
    std::string chunk(size.data(), end);
    chunk += "\r\n";
    chunk += piece;
    chunk += "\r\n";
    return ok_ = connection_.WriteAll(chunk, stall_);
  }

  bool PeerGone() const override { return !ok_ || connection_.PeerGone(); }

  bool Finish() {
    if (ok_ && chunked_) ok_ = connection_.WriteAll("0\r\n\r\n", stall_);
    return ok_;
  }

 private:
  Connection& connection_;
  const bool chunked_;
  const std::chrono::milliseconds stall_;
  bool ok_ = true;
};

}  // namespace

bool WriteResponse(HttpResponse response, const RequestHead& head, const WriteOptions& options,
                   Connection& connection) {
  constexpr size_t kOnePacketBytes = 16 * 1024;
  std::string bytes = HeadBytes(response, head, options.keep_alive);
  const bool has_body = head.method != "HEAD";
  const bool together = has_body && !response.stream && response.body.size() <= kOnePacketBytes;
  if (together) bytes += response.body;
  if (!has_body || !response.stream) {
    if (!connection.WriteOrKeep(std::move(bytes))) return false;
    return !has_body || together || connection.WriteOrKeep(std::move(response.body));
  }
  if (!connection.WriteAll(bytes, options.stall)) return false;
  StreamWriter writer(connection, !head.http_1_0, options.stall);
  response.stream(writer);
  return writer.Finish();
}

std::string RefusalBytes(int status, const std::string& message) {
  std::string out;
  AppendStatusLine(status, &out);
  AppendHeader("Content-Type", "text/plain; charset=utf-8", &out);
  AppendHeader("Content-Length", std::to_string(message.size()), &out);
  AppendHeader("Connection", "close", &out);
  return out + "\r\n" + message;
}

}  // namespace idefics
