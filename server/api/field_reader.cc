// SPDX-License-Identifier: Apache-2.0
#include "server/api/field_reader.h"

#include <cmath>

#include "common/utf8.h"

namespace idefics {
namespace {

using nlohmann::json;

// 0.5 -> "0.5", 2 -> "2"
std::string Shown(double value) { return json(value).dump(); }

std::string Shown(const json& value) {
  constexpr size_t kShownBytes = 40;
  if (value.is_structured()) return JsonKind(value);
  return Abbreviate(value.dump(-1, ' ', true, json::error_handler_t::replace), kShownBytes);
}

}  // namespace

const char* JsonKind(const json& value) {
  switch (value.type()) {
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "a list";
    case json::value_t::string:
      return "a string";
    case json::value_t::boolean:
      return "a boolean";
    case json::value_t::null:
      return "null";
    default:
      return "a number";
  }
}

bool IsText(const json& value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}

std::optional<int64_t> IntegerOf(const json& value) {
  // Beyond 2^53 a floating point number says nothing of its last digits.
  constexpr double kLargestExact = 9007199254740992.0;
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (std::abs(number) > kLargestExact || std::trunc(number) != number) return std::nullopt;
  return static_cast<int64_t>(number);
}

std::string FieldReader::PathOf(const std::string& name) const {
  return path_.empty() ? name : path_ + "." + name;
}

bool FieldReader::Fail(const std::string& name, std::string message, const char* code) {
  if (!error_) error_ = FieldProblem{PathOf(name), std::move(message), code};
  return false;
}

void FieldReader::Refuse(const char* name, const std::string& why) {
  if (Find(name) != nullptr) Fail(name, why, "unsupported_parameter");
}

const json* FieldReader::Find(const char* name) const {
  if (failed()) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool FieldReader::Integer(const char* name, int64_t min, int64_t max, int64_t* out) {
  const json* value = Find(name);
  if (value == nullptr) return false;
  const std::optional<int64_t> number = IntegerOf(*value);
  if (!number) {
    return Fail(name, std::string(name) + " is " + Shown(*value) + ", it must be an integer");
  }
  if (*number < min || *number > max) {
    return Fail(name, std::string(name) + " is " + std::to_string(*number) + ", it must be from " +
                          std::to_string(min) + " to " + std::to_string(max));
  }
  *out = *number;
  return true;
}

bool FieldReader::Integer(const char* name, int64_t min, int64_t max, int* out) {
  int64_t wide = 0;
  if (!Integer(name, min, max, &wide)) return false;
  *out = static_cast<int>(wide);
  return true;
}

bool FieldReader::Number(const char* name, double min, double max, double* out) {
  const json* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_number()) {
    return Fail(name, std::string(name) + " is " + Shown(*value) + ", it must be a number");
  }
  const auto number = value->get<double>();
  if (!(number >= min && number <= max)) {
    return Fail(name, std::string(name) + " is " + Shown(number) + ", it must be from " +
                          Shown(min) + " to " + Shown(max));
  }
  *out = number;
  return true;
}

bool FieldReader::Bool(const char* name, bool* out) {
  const json* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_boolean()) {
    return Fail(name, std::string(name) + " is " + Shown(*value) + ", it must be true or false");
  }
  *out = value->get<bool>();
  return true;
}

bool FieldReader::Text(const char* name, std::string* out) {
  const json* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_string()) {
    return Fail(name, std::string(name) + " is " + Shown(*value) + ", it must be a string");
  }
  *out = value->get<std::string>();
  return true;
}

bool FieldReader::Integers(const char* name, int64_t min, int64_t max, size_t most,
                           std::vector<int32_t>* out) {
  const json* value = Find(name);
  if (value == nullptr) return false;
  if (!value->is_array() || value->size() > most) {
    return Fail(name, std::string(name) + " must be a list of at most " + std::to_string(most) +
                          " integers");
  }
  for (size_t i = 0; i < value->size(); ++i) {
    const std::optional<int64_t> number = IntegerOf((*value)[i]);
    const std::string item = std::string(name) + "[" + std::to_string(i) + "]";
    if (!number || *number < min || *number > max) {
      return Fail(item, item + " is " + Shown((*value)[i]) + ", it must be an integer from " +
                            std::to_string(min) + " to " + std::to_string(max));
    }
    out->push_back(static_cast<int32_t>(*number));
  }
  return true;
}

bool FieldReader::AddText(const std::string& path, const json& value, size_t most_bytes,
                          std::vector<std::string>* out) {
  if (!value.is_string()) {
    return Fail(path, path + " is " + Shown(value) + ", it must be a string");
  }
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty()) return Fail(path, path + " is empty");
  if (text.size() > most_bytes) {
    return Fail(path, path + " has " + std::to_string(text.size()) + " bytes, the limit is " +
                          std::to_string(most_bytes));
  }
  out->push_back(text);
  return true;
}

bool FieldReader::Texts(const char* name, size_t most, size_t most_bytes,
                        std::vector<std::string>* out) {
  const json* value = Find(name);
  if (value == nullptr) return false;
  if (value->is_string()) return AddText(name, *value, most_bytes, out);
  if (!value->is_array() || value->size() > most) {
    return Fail(name, std::string(name) + " must be a string or a list of at most " +
                          std::to_string(most) + " strings");
  }
  for (size_t i = 0; i < value->size(); ++i) {
    const std::string path = std::string(name) + "[" + std::to_string(i) + "]";
    if (!AddText(path, (*value)[i], most_bytes, out)) return false;
  }
  return true;
}

}  // namespace idefics
