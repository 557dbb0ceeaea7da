// SPDX-License-Identifier: Apache-2.0
#include "weights/module_loader.h"

#include <ATen/ops/from_blob.h>
#include <torch/csrc/jit/serialization/import.h>

#include <istream>
#include <optional>
#include <sstream>

#include "common/progress.h"
#include "weights/cut_tensor.h"
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

// The rank's part of a linear's weight or scale, for the module; nothing is cut of other tensors.
Status SetPart(const BundleManifest& manifest, const TensorView& view, const std::string& path,
               const at::Device& device, Rank rank, torch::jit::Module* module) {
  ASSIGN_OR_RETURN(at::Tensor tensor, ViewOf(view));
  const LinearShard shard =
      ShardOf(manifest, std::string_view(view.name).substr(0, view.name.rfind('.')), rank);
  if (!shard.whole()) {
    tensor = path.ends_with(".scale") ? CutScale(tensor, shard) : CutWeight(tensor, shard);
  }
  if (!shard.columns.empty()) {
    int64_t columns = 0;
    for (const Run& run : shard.columns) columns += run.count;
    RETURN_IF_ERROR(SetAttribute(*module, path.substr(0, path.rfind('.')) + ".n", columns));
  }
  return SetAttribute(*module, path, tensor.to(device));
}

Status SetTensors(const Bundle& bundle, const std::string& name, const at::Device& device,
                  Rank rank, torch::jit::Module* module) {
  const std::string prefix = name + ".";
  uint64_t bytes = 0;
  for (const TensorView& view : bundle.tensors()) {
    if (view.name.starts_with(prefix)) bytes += view.bytes.size();
  }
  std::optional<Progress> progress;  // one bar for all ranks
  if (rank.index == 0) progress.emplace("Loading " + name, bytes, "B");
  for (const TensorView& view : bundle.tensors()) {
    if (!view.name.starts_with(prefix)) continue;
    const Status status =
        SetPart(bundle.manifest(), view, view.name.substr(prefix.size()), device, rank, module);
    RETURN_IF_ERROR(status.WithPrefix("tensor " + view.name));
    if (progress) progress->Advance(view.bytes.size());
  }
  for (const auto& parameter : module->named_parameters()) {
    if (parameter.value.numel() == 0) {
      return Status::InvalidInput("the bundle has no tensor " + prefix + parameter.name +
                                  ": export the checkpoint again");
    }
  }
  return Status::Ok();
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
