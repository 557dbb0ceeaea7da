// SPDX-License-Identifier: Apache-2.0
// TorchRunner: a ModelRunner that runs a bundle's TorchScript by libtorch on the CPU or a CUDA
// device. It lives in a shared library of its own, loaded by MakeTorchRunner: libtorch takes 0.3 s
// to start, and what needs no model should not wait for it.
#pragma once

#include <memory>
#include <string>

#include "predictor/model/model_runner.h"
#include "weights/bundle.h"

namespace idefics {

struct TorchRunnerOptions {
  std::string device = "auto";  // "cpu", "cuda", "cuda:1"; auto: CUDA where there is a device
  int num_threads = 0;          // CPU threads of the engine; 0: as many as are fastest
  int64_t kv_tokens = 0;        // slots of the arena; 0: as many as memory allows
  int64_t most_tokens = 0;      // more than this many could not be in use at once
  int32_t image_entries = 32;
  int32_t max_rows = 8;
  bool fused = true;  // false: plain ATen operators, for comparison
  // "auto": on a GPU tokens are chosen there, and a step starts before the host has seen the tokens
  // of the last one; "true", "false".
  std::string step_ahead = "auto";
  std::string weights = "bundle";  // "fp8": the decoder's 16-bit linears become that, on a GPU
  bool graphs = true;  // of decode steps on CUDA; false: all steps eagerly, for comparison
};

// What the library hands back; `runner` is set where `status` is ok.
struct MadeTorchRunner {
  Status status;
  std::unique_ptr<ModelRunner> runner;
  std::string description;  // "cpu, 2 threads, 8192 tokens of KV cache"
};

// The library's one symbol. Both sides are built together: C++ types may cross.
constexpr const char* kTorchRunnerLibrary = "libidefics_torch_runner.so";
constexpr const char* kTorchRunnerSymbol = "IdeficsMakeTorchRunner";
using MakeTorchRunnerFunction = void (*)(const Bundle&, const TorchRunnerOptions&,
                                         MadeTorchRunner*);

// Loads the library, then the weights, allocates the KV arena and the image table and runs one
// token through the model, so that a bundle that does not fit together fails here. kInternal: the
// library is not to be had.
Result<std::unique_ptr<ModelRunner>> MakeTorchRunner(const Bundle& bundle,
                                                     const TorchRunnerOptions& options);

}  // namespace idefics
