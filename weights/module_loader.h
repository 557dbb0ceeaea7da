// SPDX-License-Identifier: Apache-2.0
// Puts a bundle's tensors into its weightless TorchScript modules. One of the few headers with
// torch in it; included by predictor/model/torch_runner.cc alone.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <string>

#include "common/status.h"
#include "weights/bundle.h"
#include "weights/shard.h"

namespace idefics {

// The device of a tensor of the bundle, by its name.
using DeviceOf = std::function<at::Device(const std::string& tensor)>;

// Loads NAME.ts and sets every tensor "NAME.path" of the bundle as attribute `path`. On the CPU the
// tensors are views of the mapped files: with a warm page cache the load is instant. Elsewhere they
// are copied by several threads, through 256 MiB of the host at most (device_copies.h). Of a linear
// that is divided, the rank's part is copied and its number of columns set. kInvalidInput if a
// tensor has no place or a place has no tensor. REQUIRES: CheckRanks(rank.count) was ok.
Result<torch::jit::Module> LoadModule(const Bundle& bundle, const std::string& name,
                                      const DeviceOf& device_of, Rank rank = {});

}  // namespace idefics
