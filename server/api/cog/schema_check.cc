// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/schema_check.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/utf8.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr size_t kMaxShownBytes = 200;  // of a value in a message

// So much of a value that its dump begins as the whole one's does, for kMaxShownBytes and more.
json Beginning(const json& value, size_t* budget) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const size_t kept = std::min(text.size(), *budget);
    *budget -= kept;
    return text.substr(0, kept);
  }
  if (!value.is_structured()) return value;
  json out = value.is_array() ? json::array() : json::object();
  for (const auto& item : value.items()) {
    if (*budget == 0) break;
    const std::string key = value.is_array() ? "" : item.key().substr(0, *budget);
    *budget -= std::max<size_t>(key.size(), 1);
    json begun = Beginning(item.value(), budget);
    if (value.is_array()) {
      out.push_back(std::move(begun));
    } else {
      out[key] = std::move(begun);
    }
  }
  return out;
}

std::string Shown(const json& value) {
  size_t budget = 2 * kMaxShownBytes;
  const json begun = Beginning(value, &budget);
  return Abbreviate(begun.dump(-1, ' ', false, json::error_handler_t::replace), kMaxShownBytes);
}

// x86-64's long double holds every 64-bit integer and every double exactly.
long double Number(const json& value) {
  if (value.is_number_unsigned()) return static_cast<long double>(value.get<uint64_t>());
  if (value.is_number_integer()) return static_cast<long double>(value.get<int64_t>());
  return value.get<double>();
}

bool IsType(const json& value, const std::string& type) {
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  return value.is_number_integer() ||
         (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>());
}

size_t NumCharacters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

void CheckNumber(const json& value, const json& schema, std::vector<SchemaViolation>* out) {
  if (schema.contains("minimum") && Number(value) < Number(schema["minimum"])) {
    out->push_back({"", Shown(value) + " is less than the minimum of " + Shown(schema["minimum"])});
  }
  if (schema.contains("maximum") && Number(value) > Number(schema["maximum"])) {
    out->push_back(
        {"", Shown(value) + " is greater than the maximum of " + Shown(schema["maximum"])});
  }
}

void CheckArray(const json& value, const json& schema, std::vector<SchemaViolation>* out) {
  const auto items = [](const json& n) { return n == 1 ? " item" : " items"; };
  if (schema.contains("minItems") && value.size() < schema["minItems"].get<size_t>()) {
    const json& n = schema["minItems"];
    out->push_back({"", Shown(value) + " has less than " + n.dump() + items(n)});
  }
  if (schema.contains("maxItems") && value.size() > schema["maxItems"].get<size_t>()) {
    const json& n = schema["maxItems"];
    out->push_back({"", Shown(value) + " has more than " + n.dump() + items(n)});
    return;
  }
  if (!schema.contains("items")) return;
  for (size_t i = 0; i < value.size() && out->size() < kMaxViolations; ++i) {
    for (SchemaViolation& violation : CheckSchema(value[i], schema["items"])) {
      violation.pointer =
          std::to_string(i) + (violation.pointer.empty() ? "" : "/") + violation.pointer;
      out->push_back(std::move(violation));
    }
  }
}

void CheckString(const json& value, const json& schema, std::vector<SchemaViolation>* out) {
  if (!schema.contains("minLength")) return;
  const json& least = schema["minLength"];
  if (NumCharacters(value.get_ref<const std::string&>()) < least.get<size_t>()) {
    out->push_back({"", Shown(value) + " is shorter than " + least.dump() +
                            (least == 1 ? " character" : " characters")});
  }
}

}  // namespace

std::vector<SchemaViolation> CheckSchema(const json& value, const json& schema) {
  std::vector<SchemaViolation> out;
  if (schema.contains("anyOf")) {
    const auto& choices = schema["anyOf"];
    const bool any = std::any_of(choices.begin(), choices.end(), [&](const json& choice) {
      return CheckSchema(value, choice).empty();
    });
    if (!any) {
      out.push_back({"", Shown(value) + " is not valid under any of the schemas listed in the "
                                        "'anyOf' keyword"});
    }
  }
  if (schema.contains("enum")) {
    const auto& choices = schema["enum"];
    if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
      out.push_back({"", Shown(value) + " is not one of " + choices.dump()});
    }
  }
  if (schema.contains("type") && !IsType(value, schema["type"].get<std::string>())) {
    out.push_back({"", Shown(value) + " is not of type " + schema["type"].dump()});
    return out;
  }
  if (value.is_number()) CheckNumber(value, schema, &out);
  if (value.is_array()) CheckArray(value, schema, &out);
  if (value.is_string()) CheckString(value, schema, &out);
  return out;
}

}  // namespace idefics
