// SPDX-License-Identifier: Apache-2.0
// Streaming str.strip(): what it has emitted so far is always a prefix of the stripped whole.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace idefics {

// Drops leading white space (Python's) and holds back white space until text follows it. One
// thread.
class StrippedText {
 public:
  explicit StrippedText(std::function<void(std::string_view)> emit) : emit_(std::move(emit)) {}

  // `piece`: valid UTF-8, whole characters.
  void Add(std::string_view piece);

 private:
  std::function<void(std::string_view)> emit_;
  bool started_ = false;
  std::string held_;
};

}  // namespace idefics
