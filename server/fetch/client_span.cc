// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/client_span.h"

#include <string_view>
#include <utility>
#include <vector>

namespace idefics {

ClientSpan::ClientSpan(const SpanParent& parent, const char* method, const std::string& url)
    : sink_(parent.sink) {
  if (sink_ == nullptr) return;
  span_ = parent.Child(method, Span::Kind::kClient, Span::Clock::now());
  trace_state_ = parent.trace_state;
  Note("http.request.method", std::string(method));
  Note("server.address", HostOf(url));
}

void ClientSpan::AddHeaders(bool with_state, HeaderLines* lines) const {
  if (!span_) return;
  AddHeaderLine("traceparent: " + span_->context.Header(), lines);
  if (with_state && !trace_state_.empty()) AddHeaderLine("tracestate: " + trace_state_, lines);
}

void ClientSpan::Note(const char* name, std::variant<int64_t, std::string> value) {
  if (span_) notes_.emplace_back(name, std::move(value));
}

void ClientSpan::End(long status, const std::string& error) {
  if (!span_) return;
  if (status > 0) Note("http.response.status_code", int64_t{status});
  std::vector<SpanAttribute> attributes;
  for (const auto& [name, value] : notes_) {
    const auto* text = std::get_if<std::string>(&value);
    if (text != nullptr) {
      attributes.push_back({name, std::string_view(*text)});
    } else {
      attributes.push_back({name, std::get<int64_t>(value)});
    }
  }
  span_->trace_state = trace_state_;
  span_->attributes = attributes;
  span_->error = error;
  span_->end = Span::Clock::now();
  sink_->Add(*span_);
  span_.reset();
}

}  // namespace idefics
