// SPDX-License-Identifier: Apache-2.0
// Reads the fields of a JSON object into typed values. Types are strict: no "5" for 5, no 1 for
// true; 5.0 is 5. null counts as absent. The first thing that is wrong is kept, with the field's
// path; after it nothing more is read. Not thread safe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace idefics {

struct FieldProblem {
  std::string param;      // path of the field: "messages[1].content"
  std::string message;    // one sentence
  const char* code = "";  // the API's word for it, where it has one
};

class FieldReader {
 public:
  using Json = nlohmann::json;

  // `path`: of the object itself, "" for the body. `object` must outlive this.
  // REQUIRES: object.is_object().
  FieldReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  // The field, or nullptr where it is absent or null.
  const Json* Find(const char* name) const;

  // Leave `*out` as it is where the field is absent. Return whether it was there and good.
  bool Integer(const char* name, int64_t min, int64_t max, int64_t* out);
  bool Integer(const char* name, int64_t min, int64_t max, int* out);
  bool Number(const char* name, double min, double max, double* out);
  bool Bool(const char* name, bool* out);
  bool Text(const char* name, std::string* out);
  // A list of integers from `min` to `max`, at most `most` of them.
  bool Integers(const char* name, int64_t min, int64_t max, size_t most, std::vector<int32_t>* out);
  // One text or a list of at most `most`, each of 1 to `most_bytes` bytes.
  bool Texts(const char* name, size_t most, size_t most_bytes, std::vector<std::string>* out);

  // Returns false.
  bool Fail(const std::string& name, std::string message, const char* code = "");
  // Takes over what another reader found; its param is a whole path.
  void Adopt(FieldProblem error) {
    if (!error_) error_ = std::move(error);
  }
  // Fails where the field is there.
  void Refuse(const char* name, const std::string& why);

  bool failed() const { return error_.has_value(); }
  const std::optional<FieldProblem>& error() const { return error_; }
  // The path of a field of this object: "messages[0].content".
  std::string PathOf(const std::string& name) const;

 private:
  bool AddText(const std::string& path, const Json& value, size_t most_bytes,
               std::vector<std::string>* out);

  const Json& object_;
  const std::string path_;
  std::optional<FieldProblem> error_;
};

// "a list", "a number" …: what a value is, for sentences.
const char* JsonKind(const nlohmann::json& value);

// Whether it is this very string.
bool IsText(const nlohmann::json& value, std::string_view text);

// The value where it is an integer, also one that is written 5.0.
std::optional<int64_t> IntegerOf(const nlohmann::json& value);

}  // namespace idefics
