// SPDX-License-Identifier: Apache-2.0
#include "server/api/tgi/tgi_routes.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/random_id.h"
#include "common/version.h"
#include "server/api/job_exchange.h"
#include "server/api/json_body.h"
#include "server/api/tgi/tgi_answer.h"

namespace idefics {
namespace {

using nlohmann::json;
using Kind = Rejection::Kind;

HttpResponse Error(int status, std::string message, const char* type) {
  return TgiErrorResponse({status, std::move(message), type});
}

HttpResponse Refused(const Rejection& rejection) {
  switch (rejection.kind) {
    case Kind::kBusy:
      return Error(429, "Model is overloaded", "overloaded");
    case Kind::kClientLimit:
      return Error(429, rejection.message, "overloaded");
    case Kind::kBodyTimeout:
      return Error(408, rejection.message, "validation");
    case Kind::kNotReady:
    case Kind::kStopping:
    case Kind::kBroken:
    case Kind::kNoMemory:
      return Error(503, rejection.message.empty() ? "the model is not ready" : rejection.message,
                   "unhealthy");
    case Kind::kBodyTooLarge:
      return Error(413, rejection.message, "validation");
    case Kind::kUnsupportedMedia:
      return Error(415, rejection.message, "validation");
    case Kind::kInvalid:
      return Error(422, rejection.errors.front().message, "validation");
    default:
      return Error(400, rejection.message, "validation");
  }
}

}  // namespace

void TgiRoutes::AddTo(Router& router) {
  const auto add = [&](const char* path, bool streams) {
    router.Add(
        "POST", path, [this, streams](HttpRequest& r) { return Generate(r, streams); },
        Router::Lane::kBody);
  };
  add("/generate", false);
  add("/generate_stream", true);
  add("/", false);  // where huggingface_hub's client asks
  router.Add("GET", "/info", [this](HttpRequest&) { return Info(); });
}

std::variant<TgiRoutes::Started, HttpResponse> TgiRoutes::Start(HttpRequest& request,
                                                                bool streams) {
  const auto refuse = [this](const Rejection& rejection) {
    service_.CountRefusal(RequestApi::kTgi, rejection.kind);
    return Refused(rejection);
  };
  if (service_.setup().phase() != SetupState::Phase::kReady)
    return refuse({Kind::kNotReady, "", {}});
  const Predictor& predictor = service_.predictor();
  if (predictor.tokenizer() == nullptr) {
    return Error(501, "this server has no model, only a stand-in for one", "unhealthy");
  }
  auto body = ReadJsonBody(request);
  if (const auto* refused = std::get_if<Rejection>(&body)) return refuse(*refused);
  if (!std::get<json>(body).is_object()) {
    return refuse(Rejection::Invalid({{}, "the body must be a JSON object"}));
  }
  auto read = ReadTgiRequest(std::get<json>(body), predictor, streams);
  if (const auto* problem = std::get_if<FieldProblem>(&read)) {
    return refuse(Rejection::Invalid({{}, problem->message}));
  }
  auto& wanted = std::get<TgiRequest>(read);
  JobSpec spec;
  spec.id = "gen-" + RandomHex();
  spec.task.request = std::move(wanted.request);
  AdoptRequest(RequestApi::kTgi, request, &spec);
  spec.max_queued = QueueLimit(service_, options_.max_queued);
  auto result = service_.Submit(std::move(spec));
  if (const auto* refused = std::get_if<Rejection>(&result)) return refuse(*refused);
  return Started{std::move(wanted), std::get<JobService::Submitted>(std::move(result))};
}

HttpResponse TgiRoutes::Generate(HttpRequest& request, bool streams) {
  auto begun = Start(request, streams);
  if (auto* refused = std::get_if<HttpResponse>(&begun)) return std::move(*refused);
  auto& started = std::get<Started>(begun);
  if (started.wanted.stream) return Stream(std::move(started), *request.peer);
  return Whole(started, *request.peer);
}

HttpResponse TgiRoutes::Whole(const Started& started, HttpPeer& peer) {
  const JobView view = WaitForEnd(service_, started.submitted, peer);
  if (view.state != JobState::kSucceeded) return TgiFailure(EndOf(view));
  HttpResponse response = HttpResponse::Json(
      200, JsonBytes(TgiAnswer(view, started.wanted, *service_.predictor().tokenizer())));
  response.headers.emplace_back("x-prompt-tokens", std::to_string(view.usage.prompt_tokens));
  response.headers.emplace_back("x-generated-tokens", std::to_string(view.usage.completion_tokens));
  return response;
}

HttpResponse TgiRoutes::Stream(Started started, HttpPeer& peer) {
  return StreamJob(service_, started.submitted, peer,
                   std::make_shared<TgiStreamWriter>(std::move(started.wanted),
                                                     *service_.predictor().tokenizer()));
}

HttpResponse TgiRoutes::Info() const {
  if (service_.setup().phase() != SetupState::Phase::kReady)
    return Refused({Kind::kNotReady, "", {}});
  const ModelInfo& info = service_.predictor().info();
  return HttpResponse::Json(200, JsonBytes({{"model_id", options_.model},
                                            {"model_sha", nullptr},
                                            {"model_pipeline_tag", "image-text-to-text"},
                                            {"max_concurrent_requests", info.max_concurrency},
                                            {"max_best_of", 1},
                                            {"max_stop_sequences", 16},
                                            {"max_input_tokens", info.max_sequence_tokens - 1},
                                            {"max_total_tokens", info.max_sequence_tokens},
                                            {"max_client_batch_size", 1},
                                            {"router", "cog-idefics"},
                                            {"version", kServerVersion}}));
}

}  // namespace idefics
