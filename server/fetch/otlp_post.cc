// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/otlp_post.h"

#include <chrono>
#include <span>
#include <string>

#include "common/version.h"
#include "server/fetch/outbound.h"

namespace idefics {
namespace {

using std::chrono::seconds;

size_t Discard(char*, size_t, size_t count, void*) { return count; }

int StopWhenAsked(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::stop_token*>(user)->stop_requested() ? 1 : 0;
}

class OtlpPost final : public SpanPost {
 public:
  explicit OtlpPost(const TraceOptions& options)
      : url_(options.url),
        certificate_(options.certificate),
        guard_{.reach = Reach::kAny},
        easy_(MakeOutbound(
            {url_, std::string("cog-idefics/") + kServerVersion, 0, options.post_time}, &guard_)) {
    for (const std::string& header : options.headers) AddHeaderLine(header, &headers_);
    AddHeaderLine("Content-Type: application/x-protobuf", &headers_);
    AddHeaderLine("Expect:", &headers_);
    CURL* easy = easy_.get();
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, Discard);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, StopWhenAsked);
    if (!certificate_.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, certificate_.c_str());
  }

  Answer Send(std::span<const char> body, const std::stop_token& stop) override {
    CURL* easy = easy_.get();
    std::stop_token token = stop;
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &token);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    const CURLcode code = curl_easy_perform(easy);
    if (code != CURLE_OK) {
      return {Outcome::kTryAgain, {}, url_ + ": " + curl_easy_strerror(code)};
    }
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300) return {Outcome::kTaken};
    Answer answer{Outcome::kRefused, {}, url_ + " answers " + std::to_string(status)};
    for (const long retried : {429L, 502L, 503L, 504L}) {
      if (status == retried) answer.outcome = Outcome::kTryAgain;
    }
    curl_off_t wish = 0;
    curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &wish);
    if (wish > 0) answer.retry_after = seconds(wish);
    return answer;
  }

 private:
  const std::string url_;
  const std::string certificate_;
  HeaderLines headers_;
  AddressGuard guard_;
  const EasyHandle easy_;
};

}  // namespace

std::unique_ptr<SpanPost> MakeOtlpPost(const TraceOptions& options) {
  if (options.url.empty()) return nullptr;
  return std::make_unique<OtlpPost>(options);
}

}  // namespace idefics
