// SPDX-License-Identifier: Apache-2.0
#include "server/api/json_body.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "common/ascii.h"
#include "common/utf8.h"
#include "server/http/header_list.h"

namespace idefics {
namespace {

using nlohmann::json;
using Kind = Rejection::Kind;

constexpr int kMaxDepth = 128;          // the parser recurses on nesting
constexpr size_t kMaxValues = 200'000;  // ten times what the largest input may hold
constexpr size_t kValueBytes = 80;      // of a value in a tree, its text aside
constexpr size_t kMaxShownKeyBytes = 200;
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

// What a body would cost as a tree, told by its bytes in one pass before anything is built.
struct Shape {
  size_t num_values = 0;
  int depth = 0;
};

// Stops where a limit is passed: a body that is refused costs no more than it must.
Shape Measure(std::string_view text) {
  Shape shape{1, 0};
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == ',' || c == '{' || c == '[') {
      if (++shape.num_values > kMaxValues) return shape;
      if (c != ',') shape.depth = std::max(shape.depth, ++depth);
      if (shape.depth > kMaxDepth) return shape;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return shape;
}

// The parser's sentences quote what they stumbled over, which may be as long as the body.
Rejection SyntaxError(const std::string& why) {
  constexpr size_t kShownBytes = 300;
  return Rejection::Unreadable("Failed to parse the request body as JSON: " +
                               Abbreviate(why, kShownBytes));
}

Rejection TooManyValues() {
  Rejection rejection;
  rejection.kind = Kind::kBodyTooLarge;
  rejection.limit = kMaxValues;
  rejection.message =
      "the request body holds more than " + std::to_string(kMaxValues) + " JSON values";
  return rejection;
}

Rejection BodyFailure(const Status& status) {
  Rejection rejection = Rejection::Unreadable(status.message());
  if (status.code() == ErrorCode::kDeadline) rejection.kind = Kind::kBodyTimeout;
  if (status.code() == ErrorCode::kOverloaded) {
    rejection.kind = Kind::kNoMemory;
    rejection.flag = "--memory-budget";
  }
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

std::variant<json, Rejection> Parse(const std::string& body, ByteBudget::Share& memory) {
  if (body.starts_with(kByteOrderMark)) return SyntaxError("it begins with a byte order mark");
  const Shape shape = Measure(body);
  if (shape.depth > kMaxDepth) return SyntaxError("recursion limit exceeded");
  if (shape.num_values > kMaxValues) return TooManyValues();
  if (!memory.Grow(shape.num_values * kValueBytes + body.size())) {
    return BodyFailure({ErrorCode::kOverloaded,
                        "the server holds as many bytes of requests as it may (--memory-budget); "
                        "try again"});
  }
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
  const std::string shown = Abbreviate(duplicate, kMaxShownKeyBytes);
  return Rejection::Invalid({{shown}, "duplicate field `" + shown + "`"});
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
  return Parse(*body, request.memory);
}

}  // namespace idefics
