// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/request_body.h"

#include "common/random_id.h"
#include "server/api/json_body.h"

namespace idefics {
namespace {

using nlohmann::json;

Rejection WrongField(const std::string& field, const std::string& message) {
  FieldError error{{}, message};
  if (!field.empty()) error.path.push_back(field);
  return Rejection::Invalid(std::move(error));
}

// The member, or nullptr where it is absent or null.
const json* Member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<Rejection> ReadTexts(const json& body, CogRequest* out) {
  const auto read = [&](const char* name,
                        std::optional<std::string>* value) -> std::optional<Rejection> {
    const json* member = Member(body, name);
    if (member == nullptr) return std::nullopt;
    if (!member->is_string()) return WrongField(name, std::string(name) + " must be a string");
    *value = member->get<std::string>();
    return std::nullopt;
  };
  std::optional<std::string> id;
  if (auto error = read("id", &id)) return error;
  out->id = id.value_or("");
  if (auto error = read("webhook", &out->webhook)) return error;
  // Extra keys of the platform: echoed where they are texts, ignored otherwise.
  if (const json* at = Member(body, "created_at"); at && at->is_string()) out->created_at = *at;
  if (const json* version = Member(body, "version"); version && version->is_string()) {
    out->version = *version;
  }
  return std::nullopt;
}

std::optional<Rejection> CheckContext(const json& body) {
  const auto context = body.find("context");
  if (context == body.end()) return std::nullopt;
  bool good = context->is_object();
  for (const json& value : *context) good = good && value.is_string();
  if (good) return std::nullopt;
  return WrongField("context", "context must be an object of strings");
}

std::optional<Rejection> ReadEventFilter(const json& body, WebhookEvents* out) {
  const auto filter = body.find("webhook_events_filter");
  if (filter == body.end()) return std::nullopt;
  const char* const rule = "webhook_events_filter must be a list of start, output, logs, completed";
  if (!filter->is_array()) return WrongField("webhook_events_filter", rule);
  *out = {false, false, false, false};
  for (const json& event : *filter) {
    if (!event.is_string()) {
      return Rejection::Unreadable("Failed to parse the request body as JSON: " +
                                   std::string(rule));
    }
    if (event == "start") {
      out->start = true;
    } else if (event == "output") {
      out->output = true;
    } else if (event == "logs") {
      out->logs = true;
    } else if (event == "completed") {
      out->completed = true;
    } else {
      return WrongField("webhook_events_filter", rule);
    }
  }
  return std::nullopt;
}

}  // namespace

std::variant<CogRequest, Rejection> ReadCogRequest(HttpRequest& request) {
  auto parsed = ReadJsonBody(request);
  if (auto* refused = std::get_if<Rejection>(&parsed)) return std::move(*refused);
  json& body = std::get<json>(parsed);
  if (!body.is_object()) return WrongField("", "the body must be a JSON object");
  CogRequest out;
  if (auto error = ReadTexts(body, &out)) return std::move(*error);
  if (auto error = CheckContext(body)) return std::move(*error);
  if (auto error = ReadEventFilter(body, &out.webhook_events)) return std::move(*error);
  if (Member(body, "input") != nullptr) out.input = std::move(body["input"]);
  return out;
}

std::optional<Rejection> CheckId(const std::string& id) {
  constexpr size_t kMaxIdBytes = 1024;
  if (id.size() <= kMaxIdBytes) return std::nullopt;
  return WrongField("id", "id has " + std::to_string(id.size()) + " bytes, more than " +
                              std::to_string(kMaxIdBytes));
}

std::string NewPredictionId() { return "pred_" + RandomHex(); }

}  // namespace idefics
