// SPDX-License-Identifier: Apache-2.0
// The program's side of libidefics_torch_runner.so.
#include <dlfcn.h>

#include "common/log.h"
#include "predictor/model/torch_runner.h"

namespace idefics {
namespace {

// The library is never unloaded: libtorch leaves threads and thread-local destructors behind. It is
// found by the linker's rules: the program's rpath, LD_LIBRARY_PATH, the system's folders.
Status LoadLibrary(MakeTorchRunnerFunction* make) {
  void* library = dlopen(kTorchRunnerLibrary, RTLD_NOW | RTLD_LOCAL);
  void* symbol = library == nullptr ? nullptr : dlsym(library, kTorchRunnerSymbol);
  if (symbol == nullptr) {
    return Status::Internal("the model runtime cannot be loaded: " + std::string(dlerror()) +
                            " (scripts/build.sh makes it; LD_LIBRARY_PATH may name its folder)");
  }
  *make = reinterpret_cast<MakeTorchRunnerFunction>(symbol);
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<ModelRunner>> MakeTorchRunner(const Bundle& bundle,
                                                     const TorchRunnerOptions& options) {
  MakeTorchRunnerFunction make = nullptr;
  RETURN_IF_ERROR(LoadLibrary(&make));
  MadeTorchRunner made;
  make(bundle, options, &made);
  RETURN_IF_ERROR(made.status);
  LogInfo("model on " + made.description + ", " + std::to_string(options.image_cache_slots) +
          " images");
  return std::move(made.runner);
}

}  // namespace idefics
