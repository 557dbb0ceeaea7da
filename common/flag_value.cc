// SPDX-License-Identifier: Apache-2.0
#include "common/flag_value.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <sstream>

namespace idefics {

std::vector<std::string> SplitAt(const char* text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

std::string FormatNumber(double value) {
  char text[400];
  return {text, std::to_chars(text, text + sizeof(text), value, std::chars_format::fixed).ptr};
}

namespace {

// "" is a bare --flag.
Result<std::string> ParseBool(const std::string& value) {
  for (const char* yes : {"true", "1", "yes", "on", ""}) {
    if (value == yes) return std::string("true");
  }
  for (const char* no : {"false", "0", "no", "off"}) {
    if (value == no) return std::string("false");
  }
  return Status::InvalidInput("use true or false");
}

Status CheckNumber(const Flag& flag, const std::string& value) {
  char* end = nullptr;
  errno = 0;
  const double number = std::strtod(value.c_str(), &end);
  const bool whole = flag.type != FlagType::kInteger || number == std::floor(number);
  if (value.empty() || *end != '\0' || errno != 0 || !std::isfinite(number) || !whole ||
      number < flag.minimum || number > flag.maximum) {
    return Status::InvalidInput(
        std::string("use ") + (flag.type == FlagType::kInteger ? "a whole number" : "a number") +
        " from " + FormatNumber(flag.minimum) + " to " + FormatNumber(flag.maximum));
  }
  return Status::Ok();
}

bool IsDevice(const std::string& name) {
  if (name == "cpu" || name == "cuda") return true;
  if (!name.starts_with("cuda:")) return false;
  const std::string_view index = std::string_view(name).substr(5);
  return !index.empty() && index.size() < 4 &&
         index.find_first_not_of("0123456789") == std::string_view::npos;
}

// "auto", or a device for each rank: "cuda:0,cuda:2".
bool IsDevices(const std::string& value) {
  if (value.empty() || value.ends_with(',')) return false;
  const std::vector<std::string> names = SplitAt(value.c_str(), ',');
  return value == "auto" || std::all_of(names.begin(), names.end(), IsDevice);
}

}  // namespace

Result<std::string> ParseFlagValue(const Flag& flag, const std::string& value) {
  switch (flag.type) {
    case FlagType::kString:
      return value;
    case FlagType::kBool:
      return ParseBool(value);
    case FlagType::kInteger:
    case FlagType::kNumber:
      RETURN_IF_ERROR(CheckNumber(flag, value));
      return value;
    case FlagType::kChoice:
      for (const std::string& choice : SplitAt(flag.choices, '|')) {
        if (choice == value) return value;
      }
      return Status::InvalidInput(std::string("use one of ") + flag.choices);
    case FlagType::kDevices:
      if (IsDevices(value)) return value;
      return Status::InvalidInput("use auto, cpu, cuda or cuda:N, or several with commas between");
  }
  return Status::Internal("unknown flag type");
}

}  // namespace idefics
