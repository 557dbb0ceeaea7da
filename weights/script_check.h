// SPDX-License-Identifier: Apache-2.0
// What a bundle's TorchScript may do: compute with tensors, by the operators that
// scripts/export/modules.py comes to, and nothing else. torch::jit has operators that read and
// write files, call Python and start processes; a bundle that names one is refused before anything
// of it runs. Private to weights: it shows torch. kInvalidInput says what is forbidden.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>

#include "common/status.h"

namespace idefics {

// Before torch::jit::load, which runs __setstate__, and the expressions of parameters' defaults and
// of classes' constants: an archive is refused that has one, or one that is no literal. May throw
// what torch throws.
Status CheckScriptSources(const std::string& archive);

// After it, before a method is called: every function of the module has only allowed operators.
// May throw what torch throws: functions are compiled when they are looked at.
Status CheckScriptOperators(const torch::jit::Module& module);

}  // namespace idefics
