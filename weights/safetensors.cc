// SPDX-License-Identifier: Apache-2.0
#include "weights/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "weights/mapped_file.h"

namespace idefics {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the safetensors library
constexpr size_t kMaxDepth = 8;                    // of the header's JSON; the format has 3

struct Entry {
  TensorView view;
  uint64_t begin = 0;  // in the data that follows the header
  uint64_t end = 0;
};

// Header JSON -> a discarded value where it is none, nests too deep or gives a name twice.
Json ParseHeader(std::span<const uint8_t> text) {
  std::set<std::string> names;
  bool good = true;
  const auto callback = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > static_cast<int>(kMaxDepth)) good = false;
    if (event == Json::parse_event_t::key && depth == 1) {
      good = good && names.insert(value.get<std::string>()).second;
    }
    return good;
  };
  Json header = Json::parse(text.begin(), text.end(), callback, /*allow_exceptions=*/false);
  return good && header.is_object() ? header : Json(Json::value_t::discarded);
}

// shape * element size, or false where it overflows.
bool ByteSize(const std::vector<int64_t>& shape, DType dtype, uint64_t* bytes) {
  *bytes = DTypeSize(dtype);
  for (const int64_t n : shape) {
    if (__builtin_mul_overflow(*bytes, static_cast<uint64_t>(n), bytes)) return false;
  }
  return true;
}

bool ReadNumbers(const Json& json, std::vector<int64_t>* numbers) {
  if (!json.is_array()) return false;
  for (const Json& value : json) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX) return false;
    numbers->push_back(value.get<int64_t>());
  }
  return true;
}

// Sets `why` to what follows "tensor NAME" in the error.
bool ReadEntry(const Json& json, uint64_t data_bytes, Entry* entry, std::string* why) {
  *why = " is not described by dtype, shape and data_offsets";
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json.contains("data_offsets")) {
    return false;
  }
  std::vector<int64_t> offsets;
  if (!ReadNumbers(json["shape"], &entry->view.shape) ||
      !ReadNumbers(json["data_offsets"], &offsets) || offsets.size() != 2) {
    return false;
  }
  const std::string dtype_name = json["dtype"].get<std::string>();
  const std::optional<DType> dtype = ParseSafetensorsDType(dtype_name);
  if (!dtype) {
    *why = " has the dtype " + dtype_name.substr(0, 20) + ", which this program does not know";
    return false;
  }
  entry->view.dtype = *dtype;
  entry->begin = static_cast<uint64_t>(offsets[0]);
  entry->end = static_cast<uint64_t>(offsets[1]);
  if (entry->begin > entry->end || entry->end > data_bytes) {
    *why = " lies at bytes " + std::to_string(entry->begin) + " to " + std::to_string(entry->end) +
           " of " + std::to_string(data_bytes);
    return false;
  }
  uint64_t size = 0;
  if (!ByteSize(entry->view.shape, *dtype, &size) || size != entry->end - entry->begin) {
    *why = " takes " + std::to_string(entry->end - entry->begin) +
           " bytes, which is not what its shape and dtype need";
    return false;
  }
  return true;
}

// Sorted by place; every byte of the data belongs to exactly one tensor.
bool CoversExactly(std::vector<Entry>* entries, uint64_t data_bytes) {
  std::sort(entries->begin(), entries->end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const Entry& entry : *entries) {
    if (entry.begin != at) return false;
    at = entry.end;
  }
  return at == data_bytes;
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::Open(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const MappedFile mapped, MapFile(path));
  const auto broken = [&path](const std::string& why) {
    return Status::InvalidInput(path.string() + " is not a whole safetensors file, " + why +
                                ": copy or export it again");
  };
  const std::span<const uint8_t> bytes = mapped.bytes;
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < kLengthBytes && i < bytes.size(); ++i) {
    header_bytes |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  }
  if (bytes.size() < kLengthBytes || header_bytes > kMaxHeaderBytes ||
      header_bytes > bytes.size() - kLengthBytes) {
    return broken("its " + std::to_string(bytes.size()) + " bytes cannot hold a header of " +
                  std::to_string(header_bytes) + " bytes");
  }
  const Json header = ParseHeader(bytes.subspan(kLengthBytes, header_bytes));
  if (header.is_discarded()) return broken("its header is not a JSON object with distinct names");
  const std::span<const uint8_t> data = bytes.subspan(kLengthBytes + header_bytes);
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    Entry entry;
    std::string why;
    if (!ReadEntry(json, data.size(), &entry, &why)) return broken("tensor " + name + why);
    entry.view.name = name;
    entry.view.bytes = data.subspan(entry.begin, entry.end - entry.begin);
    entry.view.mapping = mapped.owner;
    entries.push_back(std::move(entry));
  }
  if (!CoversExactly(&entries, data.size())) {
    return broken("its tensors overlap or leave a gap in its " + std::to_string(data.size()) +
                  " bytes of data");
  }
  SafetensorsFile file;
  for (Entry& entry : entries) file.tensors_.push_back(std::move(entry.view));
  return file;
}

}  // namespace idefics
