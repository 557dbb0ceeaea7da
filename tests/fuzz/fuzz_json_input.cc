// SPDX-License-Identifier: Apache-2.0
// A body's bytes -> request -> validated input -> task, as a route reads them; and the answers to
// what is refused, which must be JSON and no multiple of the body.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "common/check.h"
#include "server/api/cog/input_parser.h"
#include "server/api/cog/input_validation.h"
#include "server/api/cog/prediction_object.h"
#include "server/api/cog/rejection_response.h"
#include "server/api/cog/request_body.h"
#include "server/api/json_body.h"

namespace idefics {
namespace {

constexpr size_t kMaxAnswerBytes = 128 * 1024;

class BytesPeer final : public HttpPeer {
 public:
  explicit BytesPeer(std::string body) : body_(std::move(body)) {}
  Result<std::string> ReadBody() override { return body_; }
  bool Gone() const override { return false; }
  void WhenGone(std::function<void()>) override {}

 private:
  const std::string body_;
};

void CheckAnswer(const Rejection& rejection) {
  const HttpResponse response = CogResponse(rejection);
  IDEFICS_CHECK(response.status >= 400 && response.status < 500);
  IDEFICS_CHECK(response.body.size() < kMaxAnswerBytes);
  if (response.status == 422) IDEFICS_CHECK(nlohmann::json::accept(response.body));
}

void Run(std::string body) {
  BytesPeer peer(std::move(body));
  HttpRequest request;
  request.headers = {{"Content-Type", "application/json"}};
  request.peer = &peer;
  auto read = ReadCogRequest(request);
  if (const auto* refused = std::get_if<Rejection>(&read)) return CheckAnswer(*refused);
  const auto& wanted = std::get<CogRequest>(read);
  CheckId(wanted.id);
  ValidatedInput input = ValidateInput(wanted.input, InputOrigin::kHttp);
  if (!input.errors.empty()) {
    return CheckAnswer({Rejection::Kind::kInvalid, "", std::move(input.errors)});
  }
  const Task task = ParseInput(input.values, InputOrigin::kHttp);
  IDEFICS_CHECK(task.request.sampling.eos_token_ids.size() <= 64);
  IDEFICS_CHECK(nlohmann::json::accept(JsonBytes(ShortenDataUris(input.values))));
}

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  idefics::Run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
