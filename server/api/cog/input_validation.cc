// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/input_validation.h"

#include <strings.h>

#include <cmath>
#include <limits>

#include "server/api/cog/schema_check.h"

namespace idefics {
namespace {

using nlohmann::json;

bool StartsWithIgnoringCase(const std::string& text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         strncasecmp(text.data(), prefix.data(), prefix.size()) == 0;
}

// "ftp://x" -> "ftp"; "foo.jpg" -> "".
std::string SchemeOf(const std::string& text) {
  const size_t colon = text.find(':');
  const size_t end = text.find_first_of("/?# ");
  return colon == std::string::npos || end < colon || colon > 20 ? "" : text.substr(0, colon);
}

// The nearest 64-bit integer: what is beyond them is outside of every limit too.
int64_t NearestInteger(double number) {
  constexpr double kBeyond = 9223372036854775808.0;  // 2^63
  if (number >= kBeyond) return std::numeric_limits<int64_t>::max();
  if (number < -kBeyond) return std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(number);
}

// 16.0 passes as an integer; the engine gets 16.
void MakeIntegers(json& value, const json& schema) {
  if (value.is_number_float() && schema.value("type", "") == "integer") {
    value = NearestInteger(value.get<double>());
  } else if (value.is_array()) {
    const json* items = schema.contains("items") ? &schema["items"] : nullptr;
    if (schema.contains("anyOf")) items = &schema["anyOf"].back()["items"];
    if (items == nullptr) return;
    for (json& item : value) MakeIntegers(item, *items);
  } else if (value.is_number_float() && schema.contains("anyOf")) {
    MakeIntegers(value, schema["anyOf"].front());
  }
}

// `field`: "image", "prompt/0", "__root__".
FieldError Error(std::string field, std::string message, std::string type = "value_error") {
  return {{"input", std::move(field)}, std::move(message), std::move(type)};
}

// All lists of bad_words_ids together: each step of the engine looks at every one of them.
void CheckBadWords(const json& lists, std::vector<FieldError>* errors) {
  constexpr size_t kMaxIds = 50'000;
  size_t count = 0;
  for (const json& list : lists) count += list.size();
  if (count > kMaxIds) {
    errors->push_back(Error("bad_words_ids", "its lists have " + std::to_string(count) +
                                                 " ids together, more than " +
                                                 std::to_string(kMaxIds)));
  }
}

void CheckPresence(const json& input, std::vector<FieldError>* errors) {
  if (!input.contains("prompt")) {
    for (const char* name : {"image", "text"}) {
      if (!input.contains(name)) {
        errors->push_back(Error(name, "Field required", "value_error.missing"));
      }
    }
    return;
  }
  for (const char* name : {"image", "text"}) {
    if (input.contains(name)) {
      errors->push_back(
          Error(name, "cannot be combined with prompt; make it an item of prompt instead"));
    }
  }
}

}  // namespace

bool IsImageSource(const std::string& text, InputOrigin origin) {
  for (const char* prefix : {"http://", "https://", "data:"}) {
    if (StartsWithIgnoringCase(text, prefix)) return true;
  }
  return origin == InputOrigin::kCommandLine && StartsWithIgnoringCase(text, "file:");
}

ValidatedInput ValidateInput(const json& input, InputOrigin origin) {
  ValidatedInput result;
  if (!input.is_object()) {
    for (const SchemaViolation& violation : CheckSchema(input, {{"type", "object"}})) {
      result.errors.push_back(Error("__root__", violation.message));
    }
    return result;
  }
  result.values = json::object();
  for (const InputSpec& spec : AllInputs()) {
    if (result.errors.size() >= kMaxViolations) break;
    const auto found = input.find(spec.name);
    if (found == input.end()) {
      if (!spec.default_value.is_null()) result.values[spec.name] = spec.default_value;
      continue;
    }
    const json schema = InputSchema(spec, origin);
    json value = *found;
    for (const SchemaViolation& violation : CheckSchema(value, schema)) {
      const std::string below = violation.pointer.empty() ? "" : "/" + violation.pointer;
      result.errors.push_back(Error(spec.name + below, violation.message));
    }
    if (std::string_view(spec.name) == "image" && value.is_string() &&
        !IsImageSource(value.get_ref<const std::string&>(), origin)) {
      result.errors.push_back(Error("image", "'" + SchemeOf(value.get_ref<const std::string&>()) +
                                                 "' is not a valid URL scheme. 'data', 'http', or "
                                                 "'https' is supported."));
    }
    if (result.errors.empty()) MakeIntegers(value, schema);
    result.values[spec.name] = std::move(value);
  }
  for (const auto& [name, value] : input.items()) {
    if (!result.values.contains(name)) result.dropped.push_back(name);
  }
  if (result.errors.empty() && result.values.contains("bad_words_ids")) {
    CheckBadWords(result.values["bad_words_ids"], &result.errors);
  }
  CheckPresence(input, &result.errors);
  return result;
}

std::string ErrorSentence(const std::vector<FieldError>& errors) {
  std::string out;
  for (const FieldError& error : errors) {
    if (!out.empty()) out += "; ";
    out += "input " + error.path.back() + ": " + error.message;
  }
  return out;
}

}  // namespace idefics
