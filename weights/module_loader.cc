// SPDX-License-Identifier: Apache-2.0
#include "weights/module_loader.h"

#include <ATen/ops/from_blob.h>
#include <torch/csrc/jit/serialization/import.h>

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

// Sets the bundle's tensors named PREFIX.path. On the CPU as they are, cut where a rank has a part.
Status SetTensors(const Bundle& bundle, const std::string& name, const at::Device& device,
                  Rank rank, torch::jit::Module* module) {
  const std::string prefix = name + ".";
  std::vector<TensorView> views;
  uint64_t bytes = 0;
  for (const TensorView& view : bundle.tensors()) {
    if (!view.name.starts_with(prefix)) continue;
    views.push_back(view);
    bytes += view.bytes.size();
  }
  std::optional<Progress> progress;  // one bar for all ranks
  if (rank.index == 0) progress.emplace("Loading " + name, bytes, "B");
  const auto advance = [&progress](uint64_t loaded) {
    if (progress) progress->Advance(loaded);
  };
  std::optional<DeviceCopies> copies;
  if (!device.is_cpu()) copies.emplace(device);
  std::vector<at::Tensor> tensors;
  for (const TensorView& view : views) {
    ASSIGN_OR_RETURN(const at::Tensor stored, ViewOf(view));
    const TensorPart part(bundle.manifest(), view, rank);
    RETURN_IF_ERROR(part.SetColumns(view.name.substr(prefix.size()), module));
    if (copies) {
      part.AddTo(*copies, stored);
    } else {
      tensors.push_back(part.Of(stored));
      advance(view.bytes.size());
    }
  }
  if (copies) tensors = copies->Run(advance);
  for (size_t i = 0; i < views.size(); ++i) {
    const Status status =
        SetAttribute(*module, views[i].name.substr(prefix.size()), std::move(tensors[i]));
    RETURN_IF_ERROR(status.WithPrefix("tensor " + views[i].name));
  }
  return CheckComplete(prefix, *module);
}

}  // namespace

Result<torch::jit::Module> LoadModule(const Bundle& bundle, const std::string& name,
                                      const at::Device& device, Rank rank) {
  ASSIGN_OR_RETURN(const std::string script, bundle.ReadFile(name + ".ts"));
  try {
    RETURN_IF_ERROR(CheckScriptSources(script).WithPrefix(name + ".ts"));
    std::istringstream stream(script);
    torch::jit::Module module = torch::jit::load(stream);
    RETURN_IF_ERROR(CheckScriptOperators(module).WithPrefix(name + ".ts"));
    module.eval();
    RETURN_IF_ERROR(CheckLinears(bundle.manifest(), bundle.tensors()));
    RETURN_IF_ERROR(SetTensors(bundle, name, device, rank, &module));
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
