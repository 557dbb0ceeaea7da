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

// A piece of a streamed body: a chunk, or as it is for HTTP/1.0.
std::string Framed(const BodySource::Piece& piece, bool chunked) {
  if (!chunked) return piece.bytes;
  std::string out;
  if (!piece.bytes.empty()) {
    std::array<char, 16> size;
    const auto end =
        std::to_chars(size.data(), size.data() + size.size(), piece.bytes.size(), 16).ptr;
    out.assign(size.data(), end);
    out += "\r\n";
    out += piece.bytes;
    out += "\r\n";
  }
  if (piece.is_last) out += "0\r\n\r\n";
  return out;
}

}  // namespace

bool WriteResponse(HttpResponse response, const RequestHead& head, bool keep_alive,
                   Connection& connection) {
  constexpr size_t kOnePacketBytes = 16 * 1024;
  std::string bytes = HeadBytes(response, head, keep_alive);
  const bool has_body = head.method != "HEAD";
  const bool together = has_body && !response.stream && response.body.size() <= kOnePacketBytes;
  if (together) bytes += response.body;
  if (!has_body || !response.stream) {
    if (!connection.WriteOrKeep(std::move(bytes))) return false;
    return !has_body || together || connection.WriteOrKeep(std::move(response.body));
  }
  connection.stream = std::move(response.stream);
  connection.stream_chunked = !head.http_1_0;
  return connection.WriteOrKeep(std::move(bytes));
}

bool WriteStream(Connection& connection) {
  while (connection.stream && !connection.has_kept()) {
    const BodySource::Piece piece = connection.stream->Next();
    if (piece.is_last) connection.stream.reset();
    if (!piece.is_last && piece.bytes.empty()) return true;
    if (!connection.WriteOrKeep(Framed(piece, connection.stream_chunked))) return false;
  }
  return true;
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
