// SPDX-License-Identifier: Apache-2.0
// bundle.json. An input that begins with '{' is its text; any other is a list of changes to a good
// one, so that the checks behind the first are reached, too.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "tests/weights/bundle_fixture.h"
#include "weights/linear_shapes.h"
#include "weights/manifest.h"

namespace idefics {
namespace {

using testing::Json;

const std::vector<Json>& Values() {
  static const std::vector<Json> values = {nullptr,
                                           true,
                                           false,
                                           0,
                                           1,
                                           -1,
                                           2,
                                           3,
                                           7,
                                           28,
                                           64,
                                           320,
                                           323,
                                           1 << 20,
                                           1 << 24,
                                           INT64_MAX,
                                           UINT64_MAX,
                                           0.5,
                                           1e308,
                                           -0.0,
                                           "",
                                           "f16",
                                           "int8",
                                           "int4",
                                           "../x",
                                           "a/b",
                                           "\xff",
                                           Json::array(),
                                           Json::object(),
                                           {1, 2},
                                           {{"a", 1}},
                                           {{"\x01", 322}},
                                           std::string(300, 'x')};
  return values;
}

// Every value of a good manifest, sections too.
std::vector<Json::json_pointer> Places(const Json& manifest) {
  std::vector<Json::json_pointer> places;
  const Json flat = manifest.flatten();
  for (auto value = flat.begin(); value != flat.end(); ++value) {
    for (Json::json_pointer place(value.key()); !place.empty(); place = place.parent_pointer()) {
      if (std::find(places.begin(), places.end(), place) == places.end()) places.push_back(place);
    }
  }
  return places;
}

// Two bytes a change: which value, and what it becomes; beyond the list of values it is left out.
Json Changed(std::span<const uint8_t> changes) {
  static const Json good = testing::ValidManifest();
  static const std::vector<Json::json_pointer> places = Places(good);
  Json manifest = good;
  for (; changes.size() >= 2; changes = changes.subspan(2)) {
    const Json::json_pointer& place = places[changes[0] % places.size()];
    if (!manifest.contains(place)) continue;  // its section is another already
    if (changes[1] < Values().size()) {
      manifest[place] = Values()[changes[1]];
    } else if (Json& section = manifest[place.parent_pointer()]; section.is_object()) {
      section.erase(place.back());
    }
  }
  return manifest;
}

void Check(std::string_view text) {
  const Result<BundleManifest> manifest = ParseManifest(text);
  IDEFICS_CHECK(manifest.ok() || !manifest.status().message().empty());
  if (!manifest.ok()) return;
  IDEFICS_CHECK(manifest->kv_bytes_per_token(KvDType::kInt8) > 0 && manifest->image_kv_bytes() > 0);
  IDEFICS_CHECK(manifest->model.head_dim() > 0 && manifest->model.num_cross_layers() > 0);
  for (const auto& [name, file] : manifest->files) {
    IDEFICS_CHECK(name.find('/') == std::string::npos && !name.starts_with('.'));
  }
  if (manifest->model.num_layers > 64) return;
  for (const ExpectedTensor& tensor : DecoderLinears(*manifest)) {
    for (const int64_t side : tensor.shape) IDEFICS_CHECK(side >= 0);
  }
}

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0 && data[0] == '{') {
    idefics::Check({reinterpret_cast<const char*>(data), size});
  } else {
    using idefics::testing::Json;
    idefics::Check(
        idefics::Changed({data, size}).dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  return 0;
}
