// SPDX-License-Identifier: Apache-2.0
#include "server/api/json_body.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "server/http/header_list.h"

namespace idefics {
namespace {

using nlohmann::json;
using Kind = Rejection::Kind;

constexpr int kMaxDepth = 128;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// "application/json; charset=utf-8", "application/vnd.x+json" and "application/json+x" are JSON.
bool IsJsonType(const std::string& value) {
  const auto parts = SplitHeaderList(value, ";");
  const std::string type = parts.empty() ? "" : ToLower(parts.front());
  constexpr std::string_view kPrefix = "application/";
  if (!type.starts_with(kPrefix)) return false;
  const std::string_view subtype = std::string_view(type).substr(kPrefix.size());
  return subtype.substr(0, subtype.find('+')) == "json" ||
         (subtype.size() > 5 && subtype.ends_with("+json"));
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

Rejection SyntaxError(const std::string& why) {
  return Rejection::Unreadable("Failed to parse the request body as JSON: " + why);
}

Rejection BodyFailure(const Status& status) {
  Rejection rejection = Rejection::Unreadable(status.message());
  if (status.code() == ErrorCode::kDeadline) rejection.kind = Kind::kBodyTimeout;
  if (status.code() == ErrorCode::kTooLarge) {
    rejection.kind = Kind::kBodyTooLarge;
    rejection.flag = "--max-body-bytes";
  }
  return rejection;
}

std::optional<Rejection> CheckMedia(const HttpRequest& request) {
  const std::string* type = request.Header("Content-Type");
  if (type != nullptr && !IsJsonType(*type)) {
    return Rejection{
        Kind::kUnsupportedMedia, "Expected request with `Content-Type: application/json`", {}};
  }
  const std::string* encoding = request.Header("Content-Encoding");
  if (encoding != nullptr && *encoding != "identity") {
    return Rejection{Kind::kUnsupportedMedia,
                     "Content-Encoding is '" + *encoding + "': send the body without compression.",
                     {}};
  }
  return std::nullopt;
}

std::variant<json, Rejection> Parse(const std::string& body) {
  if (body.starts_with(kByteOrderMark)) return SyntaxError("it begins with a byte order mark");
  if (TooDeep(body)) return SyntaxError("recursion limit exceeded");
  // The parser would take it for the end of the text.
  if (body.find('\0') != std::string::npos) return SyntaxError("the body holds a NUL byte");
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
    json parsed = json::parse(body, watch);
    if (duplicate.empty()) return parsed;
  } catch (const json::exception& e) {
    return SyntaxError(e.what());
  }
  return Rejection::Invalid({{duplicate}, "duplicate field `" + duplicate + "`"});
}

}  // namespace

std::string JsonBytes(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::variant<json, Rejection> ReadJsonBody(HttpRequest& request) {
  if (auto refused = CheckMedia(request)) return std::move(*refused);
  const auto body = request.peer->ReadBody();
  if (!body.ok()) return BodyFailure(body.status());
  // coglet ignores a body without a Content-Type; older servers parsed it. An object is parsed.
  const bool typed = request.Header("Content-Type") != nullptr;
  const size_t start = body->find_first_not_of(" \t\r\n");
  const bool blank = start == std::string::npos;
  if (!typed && (blank || (*body)[start] != '{')) return json::object();
  if (blank) return SyntaxError("the body is empty");
  return Parse(*body);
}

}  // namespace idefics
