// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/load_modules.h"

#include <ATen/DeviceAccelerator.h>

#include <string>

#include "predictor/model/cuda_weights.h"
#include "predictor/model/torch_device.h"
#include "weights/module_loader.h"

namespace idefics {

Result<LoadedModules> LoadModules(const Bundle& bundle, const LayerSplit& split,
                                  const std::vector<at::Device>& devices, Rank rank,
                                  DecoderWeights weights) {
  const bool fp8 = weights == DecoderWeights::kFp8;
  const auto stage_of = [&split](const std::string& tensor) {
    return static_cast<size_t>(split.StageOf(tensor));
  };
  const auto device_of = [&](const std::string& tensor) { return devices[stage_of(tensor)]; };
  const auto on_host = [](const std::string& /*tensor*/) { return at::Device(at::kCPU); };
  LoadedModules loaded;
  ASSIGN_OR_RETURN(loaded.vision, LoadModule(bundle, "vision", device_of, rank));
  // With fp8 each weight is moved by itself: in 16 bit all of them might not fit on the device.
  ASSIGN_OR_RETURN(loaded.decoder,
                   LoadModule(bundle, "decoder", fp8 ? DeviceOf(on_host) : device_of, rank));
  if (devices.front().is_cuda()) {
    RETURN_IF_ERROR(CatchTorch("unpacking the weights", [&] {
      if (fp8) {
        QuantizeWeightsToFp8(loaded.decoder, [&device_of](const std::string& path) {
          return device_of("decoder." + path);
        });
      }
      UnpackWeights(loaded.decoder);
      UnpackWeights(loaded.vision);
      if (bundle.manifest().vision_quantization != "none") {
        DequantizeWeights(loaded.vision,
                          loaded.vision.attr("class_embedding").toTensor().scalar_type());
      }
      at::accelerator::emptyCache();  // the arena is sized by what is free
    }));
  }
  loaded.weight_bytes.resize(devices.size());
  for (const auto& [name, value] : loaded.vision.named_parameters()) {
    loaded.weight_bytes[stage_of("vision." + name)] += value.nbytes();
  }
  for (const auto& [name, value] : loaded.decoder.named_parameters()) {
    loaded.weight_bytes[stage_of("decoder." + name)] += value.nbytes();
  }
  return loaded;
}

}  // namespace idefics
