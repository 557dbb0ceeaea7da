// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/openai_routes.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/utf8.h"
#include "server/api/json_body.h"
#include "server/api/openai/request_fields.h"

namespace idefics {
namespace {

using nlohmann::json;
using Form = CompletionRequest::Form;
using Lane = Router::Lane;
using std::chrono::steady_clock;

// What every answer of this API carries.
HttpHandler WithHeaders(HttpHandler handler) {
  return [handler = std::move(handler)](HttpRequest& request) {
    HttpResponse response = handler(request);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() -
                                                                            request.received);
    response.headers.emplace_back("openai-processing-ms", std::to_string(took.count()));
    return response;
  };
}

// All under /v1 but what is Replicate's.
bool IsOurs(const std::string& path) {
  return path.starts_with("/v1/") && path.find("/predictions") == std::string::npos;
}

std::optional<HttpResponse> WriteError(const HttpRequest& request, int status) {
  const std::string& path = request.path;
  if (!IsOurs(path)) return std::nullopt;
  OpenAiError error = InvalidField("", "there is no " + Abbreviate(path, 100));
  error.status = status;
  if (status == 405) error.message = request.method + " is no method of " + Abbreviate(path, 100);
  if (status == 500) error = ErrorOf(Status::Internal(""));
  return ErrorResponse(error);
}

}  // namespace

HttpResponse KeyRefusal(const HttpRequest& request) {
  if (!IsOurs(request.path)) {
    HttpResponse response =
        HttpResponse::Json(401, R"({"detail":"Unauthorized: no valid API key"})");
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  OpenAiError error =
      InvalidField("", "the API key is missing or wrong: send it as Authorization: Bearer KEY",
                   "invalid_api_key");
  error.status = 401;
  error.type = "authentication_error";
  return ErrorResponse(error);
}

OpenAiRoutes::OpenAiRoutes(JobService& service, OpenAiOptions options)
    : service_(service),
      options_(std::move(options)),
      started_at_(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())),
      completions_(service_, options_),
      tokens_(service_) {}

void OpenAiRoutes::AddTo(Router& router) {
  const auto add = [&](const char* method, const char* path, HttpHandler handler, Lane lane) {
    router.Add(method, path, WithHeaders(std::move(handler)), lane);
  };
  add(
      "POST", "/v1/chat/completions",
      [this](HttpRequest& r) { return completions_.Complete(r, Form::kChat); }, Lane::kBody);
  add(
      "POST", "/v1/completions",
      [this](HttpRequest& r) { return completions_.Complete(r, Form::kText); }, Lane::kBody);
  add(
      "POST", "/v1/responses",
      [this](HttpRequest& r) { return completions_.Complete(r, Form::kResponse); }, Lane::kBody);
  add(
      "GET", "/v1/models", [this](HttpRequest&) { return Models(); }, Lane::kPlain);
  add(
      "GET", "/v1/models/{id}", [this](HttpRequest& r) { return Model(r.path_parameters[0]); },
      Lane::kPlain);
  add(
      "POST", "/tokenize", [this](HttpRequest& r) { return tokens_.Tokenize(r); }, Lane::kBody);
  add(
      "POST", "/detokenize", [this](HttpRequest& r) { return tokens_.Detokenize(r); }, Lane::kBody);
  add(
      "GET", "/tokenizer_info", [this](HttpRequest&) { return tokens_.Info(); }, Lane::kPlain);
  add(
      "GET", "/health", [this](HttpRequest&) { return Health(); }, Lane::kPlain);
  router.AddErrors(WriteError);
}

json OpenAiRoutes::Card(const std::string& name) const {
  const Predictor& predictor = service_.predictor();
  const ModelInfo& info = predictor.info();
  const bool instruct = predictor.tokenizer()->special().end_of_utterance >= 0;
  const json meta = {{"kind", instruct ? "instruct" : "base"},
                     {"demo", info.is_demo},
                     {"max_images", service_.limits().max_images},
                     {"max_sequence_tokens", info.max_sequence_tokens}};
  return {{"id", name},
          {"object", "model"},
          {"created", started_at_},
          {"owned_by", "cog-idefics"},
          {"max_model_len", info.max_sequence_tokens},
          {"meta", meta}};
}

HttpResponse OpenAiRoutes::Models() const {
  if (auto unready = WhyNotReady(service_)) return ErrorResponse(*unready);
  json cards = json::array();
  for (const std::string& name : options_.served_models) {
    if (name != "*") cards.push_back(Card(name));
  }
  return HttpResponse::Json(200, JsonBytes({{"object", "list"}, {"data", std::move(cards)}}));
}

HttpResponse OpenAiRoutes::Model(const std::string& name) const {
  if (auto unready = WhyNotReady(service_)) return ErrorResponse(*unready);
  const auto& served = options_.served_models;
  if (std::find(served.begin(), served.end(), name) == served.end()) {
    return ErrorResponse(UnknownModel(name, served.front()));
  }
  return HttpResponse::Json(200, JsonBytes(Card(name)));
}

HttpResponse OpenAiRoutes::Health() const {
  using Kind = Rejection::Kind;
  const ServiceState state = service_.state();
  switch (state.stage) {
    case ServiceState::Stage::kServing:
      break;
    case ServiceState::Stage::kLoading:
      return ErrorResponse(ErrorOf(Rejection{Kind::kNotReady, "", {}}));
    case ServiceState::Stage::kLeaving:
      return ErrorResponse(ErrorOf(Rejection{Kind::kStopping, "", {}}));
    case ServiceState::Stage::kStalled:
    case ServiceState::Stage::kFailed:
      return ErrorResponse(ErrorOf(Rejection{Kind::kBroken, state.sentence, {}}));
  }
  return HttpResponse::Json(200, "{}");
}

}  // namespace idefics
