// SPDX-License-Identifier: Apache-2.0
// The program's side of libidefics_torch_runner.so.
#include <dlfcn.h>

#include <filesystem>

#include "common/log.h"
#include "predictor/model/torch_runner.h"

namespace idefics {
namespace {

// Where the library is installed beside this program; otherwise its name alone, for the linker's
// rules: the rpath of a program that is not installed, LD_LIBRARY_PATH, the system's folders.
std::string RunnerLibrary() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto installed = program.parent_path() / IDEFICS_RUNTIME_FOLDER / kTorchRunnerLibrary;
  return std::filesystem::exists(installed, error) ? installed.string() : kTorchRunnerLibrary;
}

// The library is never unloaded: libtorch leaves threads and thread-local destructors behind.
Status LoadLibrary(MakeTorchRunnerFunction* make) {
  void* library = dlopen(RunnerLibrary().c_str(), RTLD_NOW | RTLD_LOCAL);
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
  make(bundle, options, LogWithFields, &made);
  RETURN_IF_ERROR(made.status);
  LogInfo("model on " + made.description);
  return std::move(made.runner);
}

}  // namespace idefics
