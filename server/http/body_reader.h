// SPDX-License-Identifier: Apache-2.0
// Reads one request's body off a connection, strictly: what follows the body stays in the buffer
// for the next request, and a chunk header that two parsers could read differently is refused.
#pragma once

#include <cstdint>
#include <string>

#include "common/byte_budget.h"
#include "common/defaults.h"
#include "common/status.h"
#include "server/http/connection.h"
#include "server/http/request_head.h"

namespace idefics {

struct BodyLimits {
  uint64_t max_bytes = defaults::kMaxBodyBytes;
  Connection::Clock::duration time = std::chrono::seconds(60);  // for the whole body
};

class BodyReader {
 public:
  // `memory` is grown by what is read.
  BodyReader(Connection& connection, const RequestHead& head, const BodyLimits& limits,
             ByteBudget::Share& memory)
      : connection_(connection), head_(head), limits_(limits), memory_(memory) {}

  // Errors: kTooLarge, kInvalidInput, kDeadline, kCanceled, kOverloaded (the budget is spent).
  // After an error the connection cannot be used for another request.
  Result<std::string> Read();

  // Reads and drops a short body that nobody has read, as far as it is there already or comes
  // within a moment; a client that waits for "100 Continue" sends none.
  void SkipShort();

  // The connection stands at the next request: the body is read whole, or there is none.
  bool finished() const { return finished_ || !head_.has_body(); }

 private:
  Result<std::string> ReadFramed();
  Result<std::string> ReadSized();
  Result<std::string> ReadChunked();
  Status SkipTrailers();
  Result<std::string> TakeLine();                  // without its CR LF
  Status Take(uint64_t bytes, std::string* body);  // appends to *body
  Status TooLarge() const;
  static Status NoMemory();

  Connection& connection_;
  const RequestHead& head_;
  BodyLimits limits_;
  ByteBudget::Share& memory_;
  Connection::Clock::time_point deadline_;
  bool begun_ = false;
  bool finished_ = false;
};

}  // namespace idefics
