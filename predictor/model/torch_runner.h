// SPDX-License-Identifier: Apache-2.0
// TorchRunner: a ModelRunner that runs a bundle's TorchScript by libtorch on the CPU or a CUDA
// device. It is a shared library of its own, loaded by MakeTorchRunner: libtorch takes 0.3 s to
// start, and commands that need no model should not wait for it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "common/defaults.h"
#include "common/log.h"
#include "predictor/model/model_runner.h"
#include "weights/bundle.h"
#include "weights/manifest.h"

namespace idefics {

// Whether tokens are sampled where the model runs, so that a step starts before the host has seen
// the tokens of the one before. kAuto: on a GPU.
enum class AsyncScheduling { kAuto, kOn, kOff };

// kFp8: the decoder's 16-bit linears are converted while they load, for a GPU that multiplies fp8.
enum class DecoderWeights { kAsInBundle, kFp8 };

struct TorchRunnerOptions {
  // "cpu", "cuda", "cuda:1"; auto: CUDA where there is a device. "cuda:0,cuda:2": one for each
  // rank, or of one rank those among which its layers are divided.
  std::string device = "auto";
  int tensor_parallel = 1;  // ranks among which every layer is divided
  // How long a rank waits for another before that one is taken for lost.
  std::chrono::seconds rank_timeout{defaults::kRankTimeoutS};
  int num_threads = 0;            // CPU threads of the model; 0: as many as are fastest
  int64_t kv_tokens = 0;          // slots of the KV arena; 0: as many as memory allows
  int32_t image_cache_slots = 0;  // 0: as many as memory allows
  int32_t max_image_batch = 0;    // images encoded together; 0: 1 on a CPU, 8 on a GPU
  // Of the engine: more tokens could not be in use at once.
  int32_t max_num_seqs = 0;  // 0: as many as gain something
  int32_t max_sequence_tokens = defaults::kMaxSequenceTokens;
  bool custom_ops = true;   // false: plain ATen operators, for comparison
  bool cuda_graphs = true;  // steps on CUDA from graphs; false: eagerly, for comparison
  AsyncScheduling async_scheduling = AsyncScheduling::kAuto;
  DecoderWeights weights = DecoderWeights::kAsInBundle;
  KvDType kv_dtype = KvDType::kAsInBundle;
  // Whether a CPU reads the weights from copies on pages of 2 MiB, made beside the first requests;
  // none: where the system has such pages, the weights are larger than caches and twice their size
  // is free. Not of several ranks.
  std::optional<bool> huge_pages;
};

// The library's answer; `runner` is set where `status` is ok.
struct MadeTorchRunner {
  Status status;
  std::unique_ptr<ModelRunner> runner;
  // "cpu, 2 threads, 8192 tokens of KV cache, avx2 kernels (the best that this CPU has)"
  std::string description;
};

// The library's one symbol. Both sides are built together: C++ types may cross.
constexpr const char* kTorchRunnerLibrary = "libidefics_torch_runner.so";
constexpr const char* kTorchRunnerSymbol = "IdeficsMakeTorchRunner";
// The library has its own copy of common/log, and logs through the program's.
using MakeTorchRunnerFunction = void (*)(const Bundle&, const TorchRunnerOptions&, LogFunction,
                                         MadeTorchRunner*);

// Loads the library, then the weights, allocates the KV arena and the image cache and runs one
// token through the model, so that a bundle whose parts do not match fails here. kInternal: the
// library cannot be loaded.
Result<std::unique_ptr<ModelRunner>> MakeTorchRunner(const Bundle& bundle,
                                                     const TorchRunnerOptions& options);

}  // namespace idefics
