// SPDX-License-Identifier: Apache-2.0
#include "server/cog/request_body.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cinttypes>
#include <cstdio>
#include <set>

namespace idefics {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 128;

// "application/json; charset=utf-8", "application/vnd.x+json" and "application/json+x" are JSON.
bool IsJsonType(std::string type) {
  type = type.substr(0, type.find(';'));
  std::transform(type.begin(), type.end(), type.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  constexpr std::string_view kPrefix = "application/";
  if (type.rfind(kPrefix, 0) != 0) return false;
  const std::string_view subtype = std::string_view(type).substr(kPrefix.size());
  return subtype.substr(0, subtype.find('+')) == "json" ||
         (subtype.size() > 5 && subtype.substr(subtype.size() - 5) == "+json");
}

// The parser recurses on nesting: deep bodies are refused before it sees them.
bool TooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

HttpResponse SyntaxError(const std::string& why) {
  return HttpResponse::Text(400, "Failed to parse the request body as JSON: " + why);
}

HttpResponse WrongType(const std::string& field, const std::string& message) {
  json loc = json::array({"body"});
  if (!field.empty()) loc.push_back(field);
  const json detail = {{{"loc", std::move(loc)}, {"msg", message}, {"type", "value_error"}}};
  return HttpResponse::Json(422, json{{"detail", detail}}.dump());
}

HttpResponse BodyFailure(const Status& status) {
  switch (status.code()) {
    case ErrorCode::kTooLarge:
      return HttpResponse::Text(413, status.message());
    case ErrorCode::kDeadline:
      return HttpResponse::Text(408, status.message());
    default:
      return HttpResponse::Text(400, status.message());
  }
}

std::variant<json, HttpResponse> ReadJson(HttpRequest& request) {
  const std::string* type = request.Header("Content-Type");
  if (type != nullptr && !IsJsonType(*type)) {
    return HttpResponse::Text(415, "Expected request with `Content-Type: application/json`");
  }
  if (const std::string* encoding = request.Header("Content-Encoding");
      encoding != nullptr && *encoding != "identity") {
    return HttpResponse::Text(
        415, "Content-Encoding is '" + *encoding + "': send the body without compression.");
  }
  auto body = request.peer->ReadBody();
  if (!body.ok()) return BodyFailure(body.status());
  // coglet ignores a body without a Content-Type; older servers parsed it. An object is parsed.
  const size_t start = body->find_first_not_of(" \t\r\n");
  if (type == nullptr && (start == std::string::npos || (*body)[start] != '{'))
    return json::object();
  if (start == std::string::npos) return SyntaxError("the body is empty");
  if (TooDeep(*body)) return SyntaxError("recursion limit exceeded");
  // The parser would take it for the end of the text.
  if (body->find('\0') != std::string::npos) return SyntaxError("the body holds a NUL byte");
  std::string duplicate;
  std::set<std::string> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth == 1 && event == json::parse_event_t::key &&
        !keys.insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  try {
    json parsed = json::parse(*body, watch);
    if (!duplicate.empty()) return WrongType(duplicate, "duplicate field `" + duplicate + "`");
    return parsed;
  } catch (const json::exception& e) {
    return SyntaxError(e.what());
  }
}

// The member, or nullptr where it is absent or null.
const json* Member(const json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<HttpResponse> ReadTexts(const json& body, PredictionRequest* out) {
  const auto read = [&](const char* name,
                        std::optional<std::string>* value) -> std::optional<HttpResponse> {
    const json* member = Member(body, name);
    if (member == nullptr) return std::nullopt;
    if (!member->is_string()) return WrongType(name, std::string(name) + " must be a string");
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

std::optional<HttpResponse> ReadContextAndFilter(const json& body, PredictionRequest* out) {
  if (body.contains("context")) {
    const json& context = body["context"];
    if (!context.is_object()) return WrongType("context", "context must be an object of strings");
    for (const auto& [key, value] : context.items()) {
      if (!value.is_string()) return WrongType("context", "context must be an object of strings");
    }
  }
  if (!body.contains("webhook_events_filter")) return std::nullopt;
  const json& filter = body["webhook_events_filter"];
  const char* const rule = "webhook_events_filter must be a list of start, output, logs, completed";
  if (!filter.is_array()) return WrongType("webhook_events_filter", rule);
  out->webhook_events.clear();
  for (const json& event : filter) {
    if (!event.is_string()) return SyntaxError(rule);
    const auto name = event.get<std::string>();
    if (name != "start" && name != "output" && name != "logs" && name != "completed") {
      return WrongType("webhook_events_filter", rule);
    }
    out->webhook_events.push_back(name);
  }
  return std::nullopt;
}

}  // namespace

std::variant<PredictionRequest, HttpResponse> ReadPredictionRequest(HttpRequest& request) {
  auto parsed = ReadJson(request);
  if (auto* error = std::get_if<HttpResponse>(&parsed)) return std::move(*error);
  json& body = std::get<json>(parsed);
  if (!body.is_object()) return WrongType("", "the body must be a JSON object");
  PredictionRequest out;
  if (auto error = ReadTexts(body, &out)) return std::move(*error);
  if (auto error = ReadContextAndFilter(body, &out)) return std::move(*error);
  if (Member(body, "input") != nullptr) out.input = std::move(body["input"]);
  return out;
}

std::string NewPredictionId() {
  static std::atomic<uint64_t> last{0};
  const auto now = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                             std::chrono::system_clock::now().time_since_epoch())
                                             .count());
  uint64_t before = last.load();
  uint64_t mine = 0;
  do {
    mine = std::max(now, before + 1);
  } while (!last.compare_exchange_weak(before, mine));
  char text[32];
  std::snprintf(text, sizeof text, "pred_%" PRIx64, mine);
  return text;
}

}  // namespace idefics
