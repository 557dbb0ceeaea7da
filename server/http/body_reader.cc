// SPDX-License-Identifier: Apache-2.0
#include "server/http/body_reader.h"

#include <algorithm>

namespace idefics {
namespace {

constexpr size_t kMaxLineBytes = 4096;  // of a chunk header or a trailer
constexpr size_t kMaxTrailerLines = 100;

// "1a" or "1a;name=value" -> 26. At most 15 digits: no overflow, no sign, no blank.
Result<uint64_t> ParseChunkSize(const std::string& line) {
  const std::string digits = line.substr(0, line.find(';'));
  constexpr size_t kMaxDigits = 15;
  uint64_t size = 0;
  for (const char c : digits) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return Status::InvalidInput("a chunk size must be a hexadecimal number");
    size = size * 16 + static_cast<uint64_t>(digit);
  }
  if (digits.empty() || digits.size() > kMaxDigits) {
    return Status::InvalidInput("a chunk size must be a hexadecimal number");
  }
  return size;
}

}  // namespace

Result<std::string> BodyReader::Read() {
  if (!head_.has_body()) return std::string();
  deadline_ = head_.body_deadline.value_or(Connection::Clock::now() + limits_.time);
  if (!head_.chunked && head_.content_length > limits_.max_bytes) return TooLarge();
  // Told before anything is read, not when it is full of halves.
  if (!memory_.Fits(head_.content_length)) return NoMemory();
  if (head_.expect_continue) {
    connection_.WriteAll("HTTP/1.1 100 Continue\r\n\r\n", std::chrono::seconds(5));
  }
  return ReadFramed();
}

Result<std::string> BodyReader::ReadFramed() {
  begun_ = true;
  auto body = head_.chunked ? ReadChunked() : ReadSized();
  finished_ = body.ok();
  return body;
}

void BodyReader::SkipShort() {
  constexpr uint64_t kMaxSkippedBytes = 64 * 1024;
  constexpr auto kSkipTime = std::chrono::milliseconds(100);
  if (begun_ || finished() || head_.expect_continue) return;
  if (!head_.chunked && head_.content_length > kMaxSkippedBytes) return;
  limits_.max_bytes = std::min(limits_.max_bytes, kMaxSkippedBytes);
  deadline_ = Connection::Clock::now() + kSkipTime;
  // A body that is too long or too slow leaves the connection to be closed.
  [[maybe_unused]] const Result<std::string> dropped = ReadFramed();
}

Status BodyReader::TooLarge() const {
  return Status::TooLarge("the request body is longer than " + std::to_string(limits_.max_bytes) +
                          " bytes, the limit of --max-body-bytes");
}

Status BodyReader::NoMemory() {
  return {ErrorCode::kOverloaded,
          "the server holds as many bytes of requests as it may (--memory-budget); try again"};
}

Status BodyReader::Take(uint64_t bytes, std::string* body) {
  while (bytes > 0) {
    if (connection_.unread().empty()) RETURN_IF_ERROR(connection_.ReadMore(deadline_));
    const std::string_view now = connection_.unread().substr(0, bytes);
    if (!memory_.Grow(now.size())) return NoMemory();
    body->append(now);
    bytes -= now.size();
    connection_.Consume(now.size());
  }
  return Status::Ok();
}

Result<std::string> BodyReader::ReadSized() {
  std::string body;
  // Memory grows with what arrives, not with what is announced.
  RETURN_IF_ERROR(Take(head_.content_length, &body));
  return body;
}

Result<std::string> BodyReader::TakeLine() {
  for (;;) {
    const std::string_view start = connection_.unread().substr(0, kMaxLineBytes + 1);
    const size_t end = start.find('\n');
    if (end != std::string_view::npos) {
      if (end == 0 || start[end - 1] != '\r') break;
      std::string line(start.substr(0, end - 1));
      if (HasControl(line, /*tab_allowed=*/true)) break;
      connection_.Consume(end + 1);
      return line;
    }
    if (start.size() > kMaxLineBytes) break;
    RETURN_IF_ERROR(connection_.ReadMore(deadline_));
  }
  return Status::InvalidInput("a line of the chunked body is broken");
}

Result<std::string> BodyReader::ReadChunked() {
  std::string body;
  for (;;) {
    ASSIGN_OR_RETURN(const std::string line, TakeLine());
    ASSIGN_OR_RETURN(const uint64_t size, ParseChunkSize(line));
    if (size == 0) {
      RETURN_IF_ERROR(SkipTrailers());
      return body;
    }
    if (size > limits_.max_bytes || body.size() + size > limits_.max_bytes) return TooLarge();
    RETURN_IF_ERROR(Take(size, &body));
    std::string end;
    RETURN_IF_ERROR(Take(2, &end));
    if (end != "\r\n") return Status::InvalidInput("a chunk is longer than its size says");
  }
}

Status BodyReader::SkipTrailers() {
  for (size_t i = 0; i < kMaxTrailerLines; ++i) {
    ASSIGN_OR_RETURN(const std::string line, TakeLine());
    if (line.empty()) return Status::Ok();
  }
  return Status::InvalidInput("the chunked body has too many trailers");
}

}  // namespace idefics
