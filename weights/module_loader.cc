// SPDX-License-Identifier: Apache-2.0
#include "weights/module_loader.h"

#include <ATen/ops/from_blob.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <istream>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "common/progress.h"
#include "weights/cut_tensor.h"
#include "weights/device_copies.h"
#include "weights/linear_shapes.h"
#include "weights/script_check.h"

namespace idefics {
namespace {

Result<at::ScalarType> ToScalarType(const TensorView& tensor) {
  switch (tensor.dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kF16:
      return at::kHalf;
    case DType::kU8:
      return at::kByte;
    default:
      return Status::InvalidInput("tensor " + tensor.name + " of the bundle has a type that " +
                                  "this program does not run: export the checkpoint again");
  }
}

Result<at::Tensor> ViewOf(const TensorView& tensor) {
  ASSIGN_OR_RETURN(const at::ScalarType type, ToScalarType(tensor));
  // The mapping is read-only; nothing writes to a parameter.
  auto* data = const_cast<uint8_t*>(tensor.bytes.data());
  return at::from_blob(
      data, tensor.shape, [keep = tensor.mapping](void*) {}, at::TensorOptions(type));
}

// Sets the attribute at a path like "layers.0.qkv.weight" in `module`.
Status SetAttribute(torch::jit::Module module, const std::string& path,
                    const torch::jit::IValue& value) {
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', begin)) {
    const std::string part = path.substr(begin, dot - begin);
    if (!module.hasattr(part)) return Status::InvalidInput("has no place in the module");
    module = module.attr(part).toModule();
    begin = dot + 1;
  }
  const std::string last = path.substr(begin);
  if (!module.hasattr(last)) return Status::InvalidInput("has no place in the module");
  module.setattr(last, value);
  return Status::Ok();
}

Status CheckComplete(const std::string& prefix, const torch::jit::Module& module) {
  for (const auto& parameter : module.named_parameters()) {
    if (parameter.value.numel() == 0) {
      return Status::InvalidInput("the bundle has no tensor " + prefix + parameter.name +
                                  ": export the checkpoint again");
    }
  }
  return Status::Ok();
}

// Which part of a tensor the rank loads, cut out of it or, where nothing is cut, itself.
class TensorPart {
 public:
  TensorPart(const BundleManifest& manifest, const TensorView& view, Rank rank)
      : stored_bytes_(view.bytes.size()),
        is_scale_(view.name.ends_with(".scale")),
        shard_(
            ShardOf(manifest, std::string_view(view.name).substr(0, view.name.rfind('.')), rank)) {}

  // Sets the number of columns of the linear at `path`, whose weight or scale this is.
  Status SetColumns(const std::string& path, torch::jit::Module* module) const {
    if (shard_.columns.empty()) return Status::Ok();
    int64_t columns = 0;
    for (const Run& run : shard_.columns) columns += run.count;
    return SetAttribute(*module, path.substr(0, path.rfind('.')) + ".n", columns);
  }

  at::Tensor Of(const at::Tensor& stored) const {
    if (shard_.whole()) return stored;
    return is_scale_ ? CutScale(stored, shard_) : CutWeight(stored, shard_);
  }

  void AddTo(DeviceCopies& copies, const at::Tensor& stored) const {
    if (shard_.whole()) {
      copies.Add(stored);
    } else {
      copies.AddMade(stored_bytes_, [part = *this, stored] { return part.Of(stored); });
    }
  }

 private:
  uint64_t stored_bytes_;
  bool is_scale_;
  LinearShard shard_;
};

// Tensors of the bundle for one device.
struct DeviceTensors {
  at::Device device;
  std::vector<TensorView> views;
};

// Those named PREFIX.path, by device.
std::vector<DeviceTensors> TensorsByDevice(const Bundle& bundle, const std::string& prefix,
                                           const DeviceOf& device_of) {
  std::vector<DeviceTensors> all;
  for (const TensorView& view : bundle.tensors()) {
    if (!view.name.starts_with(prefix)) continue;
    const at::Device device = device_of(view.name);
    auto found = std::ranges::find(all, device, &DeviceTensors::device);
    if (found == all.end()) found = all.insert(found, {device, {}});
    found->views.push_back(view);
  }
  return all;
}

// On the CPU as they are, cut where a rank has a part.
Status SetTensors(const BundleManifest& manifest, const DeviceTensors& tensors, Rank rank,
                  size_t prefix, const std::function<void(uint64_t)>& on_loaded,
                  torch::jit::Module* module) {
  std::optional<DeviceCopies> copies;
  if (!tensors.device.is_cpu()) copies.emplace(tensors.device);
  std::vector<at::Tensor> loaded;
  for (const TensorView& view : tensors.views) {
    ASSIGN_OR_RETURN(const at::Tensor stored, ViewOf(view));
    const TensorPart part(manifest, view, rank);
    RETURN_IF_ERROR(part.SetColumns(view.name.substr(prefix), module));
    if (copies) {
      part.AddTo(*copies, stored);
    } else {
      loaded.push_back(part.Of(stored));
      on_loaded(view.bytes.size());
    }
  }
  if (copies) loaded = copies->Run(on_loaded);
  for (size_t i = 0; i < loaded.size(); ++i) {
    const std::string& name = tensors.views[i].name;
    const Status status = SetAttribute(*module, name.substr(prefix), std::move(loaded[i]));
    RETURN_IF_ERROR(status.WithPrefix("tensor " + name));
  }
  return Status::Ok();
}

Status SetAllTensors(const Bundle& bundle, const std::string& name, const DeviceOf& device_of,
                     Rank rank, torch::jit::Module* module) {
  const std::string prefix = name + ".";
  const std::vector<DeviceTensors> all = TensorsByDevice(bundle, prefix, device_of);
  uint64_t bytes = 0;
  for (const DeviceTensors& tensors : all) {
    for (const TensorView& view : tensors.views) bytes += view.bytes.size();
  }
  std::optional<Progress> progress;  // one bar for all ranks
  if (rank.index == 0) progress.emplace("Loading " + name, bytes, "B");
  const auto advance = [&progress](uint64_t loaded) {
    if (progress) progress->Advance(loaded);
  };
  for (const DeviceTensors& tensors : all) {
    RETURN_IF_ERROR(SetTensors(bundle.manifest(), tensors, rank, prefix.size(), advance, module));
  }
  return CheckComplete(prefix, *module);
}

}  // namespace

Result<torch::jit::Module> LoadModule(const Bundle& bundle, const std::string& name,
                                      const DeviceOf& device_of, Rank rank) {
  ASSIGN_OR_RETURN(const std::string script, bundle.ReadFile(name + ".ts"));
  try {
    RETURN_IF_ERROR(CheckScriptSources(script).WithPrefix(name + ".ts"));
    std::istringstream stream(script);
    torch::jit::Module module = torch::jit::load(stream);
    RETURN_IF_ERROR(CheckScriptOperators(module).WithPrefix(name + ".ts"));
    module.eval();
    RETURN_IF_ERROR(CheckLinears(bundle.manifest(), bundle.tensors()));
    RETURN_IF_ERROR(SetAllTensors(bundle, name, device_of, rank, &module));
    return module;
  } catch (const c10::OutOfMemoryError& error) {
    return Status(ErrorCode::kOutOfMemory, std::string("the device has no room for ") + name +
                                               ": " + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return Status::InvalidInput(name + ".ts cannot be loaded: " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    return Status::InvalidInput(name + ".ts cannot be loaded: " + error.what());
  }
}

}  // namespace idefics
