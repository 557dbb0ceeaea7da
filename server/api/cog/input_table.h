// SPDX-License-Identifier: Apache-2.0
// The one table of inputs. Validation, defaults, the OpenAPI document and the help of `predict` are
// all read from it. Immutable; any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <span>

namespace idefics {

struct InputSpec {
  const char* name;
  // JSON schema of the value: type, minimum, items, …; without default, title and description.
  // {"enum": […]} becomes a named schema of its own, as `cog build` writes it.
  nlohmann::json schema;
  nlohmann::json default_value;  // null: an optional input without a default
  const char* description;
};

// In declaration order, which is x-order.
std::span<const InputSpec> AllInputs();

// Where limits differ: the command line may ask for a single token.
enum class InputOrigin { kHttp, kCommandLine };

// `components.schemas.Input` without $refs: what a value is validated against.
nlohmann::json InputSchema(const InputSpec& spec, InputOrigin origin);

// The text for `predict --help`: one line an input.
std::string InputsHelp();

}  // namespace idefics
