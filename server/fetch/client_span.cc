// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/client_span.h"

#include <utility>

namespace idefics {

ClientSpan::ClientSpan(const SpanParent& parent, const char* method, const std::string& url)
    : sink_(parent.sink) {
  if (sink_ == nullptr) return;
  span_ = parent.Child(method, Span::Kind::kClient, Span::Clock::now());
  Note("http.request.method", std::string(method));
  Note("server.address", HostOf(url));
}

void ClientSpan::AddHeaders(bool with_state, HeaderLines* lines) const {
  if (!span_) return;
  AddHeaderLine("traceparent: " + span_->context.Header(), lines);
  if (with_state && !span_->trace_state.empty()) {
    AddHeaderLine("tracestate: " + span_->trace_state, lines);
  }
}

void ClientSpan::Note(const char* name, decltype(SpanAttribute::value) value) {
  if (span_) span_->attributes.push_back({name, std::move(value)});
}

void ClientSpan::End(long status, const std::string& error) {
  if (!span_) return;
  if (status > 0) Note("http.response.status_code", int64_t{status});
  span_->error = error;
  span_->end = Span::Clock::now();
  sink_->Add(std::move(*span_));
  span_.reset();
}

}  // namespace idefics
