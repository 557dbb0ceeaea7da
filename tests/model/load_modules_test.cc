// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/load_modules.h"

#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>

#include "tests/weights/bundle_fixture.h"

namespace idefics {
namespace {

// NAME.ts with a place for each parameter.
void WriteScript(const std::filesystem::path& folder, const std::string& name,
                 const std::vector<std::string>& parameters) {
  torch::jit::Module module(name);
  for (const std::string& parameter : parameters) {
    module.register_parameter(parameter, at::empty({0}), false);
  }
  module.save((folder / (name + ".ts")).string());
}

// The n-th tensor has the number n twice.
void WriteBundle(const std::filesystem::path& folder) {
  WriteScript(folder, "vision", {"positions"});
  WriteScript(folder, "decoder", {"embed", "norm"});
  testing::WriteFile(folder / "tokenizer.model", "pieces");
  testing::Json header;
  std::string data;
  float n = 0;
  for (const char* name : {"vision.positions", "decoder.norm", "decoder.embed"}) {
    const float numbers[] = {n, n};
    header[name] = testing::TensorJson("F32", {2}, data.size(), data.size() + sizeof(numbers));
    data.append(reinterpret_cast<const char*>(numbers), sizeof(numbers));
    ++n;
  }
  testing::WriteFile(folder / "weights-00001-of-00001.safetensors",
                     testing::SafetensorsBytes(header.dump(), data));
  testing::WriteManifest(folder, testing::ValidManifest());
}

TEST_CASE("each tensor is on the device of its stage, where its bytes are counted",
          "[load_modules]") {
  const testing::TemporaryFolder folder;
  WriteBundle(folder.path());
  const Bundle bundle = Bundle::Open(folder.path(), {}).value();
  const LayerSplit split = LayerSplit::Make(bundle.manifest().model, bundle.tensors(), 2).value();
  const LoadedModules loaded =
      LoadModules(bundle, split, {at::kCPU, at::kMeta}, {}, DecoderWeights::kAsInBundle).value();
  CHECK(at::equal(loaded.vision.attr("positions").toTensor(), at::full({2}, 0.0f)));
  CHECK(loaded.decoder.attr("norm").toTensor().is_meta());
  CHECK(at::equal(loaded.decoder.attr("embed").toTensor(), at::full({2}, 2.0f)));
  CHECK(loaded.weight_bytes == std::vector<uint64_t>{16, 8});
}

}  // namespace
}  // namespace idefics
