// SPDX-License-Identifier: Apache-2.0
#include "weights/script_check.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/parser.h>
#include <torch/csrc/jit/frontend/tree_views.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <string_view>

namespace idefics {
namespace {

namespace jit = torch::jit;

// What the modules of every kind of checkpoint consist of. Sorted.
constexpr std::array<std::string_view, 61> kOperators = {
    "aten::__is__",
    "aten::__isnot__",
    "aten::add",
    "aten::append",
    "aten::arange",
    "aten::cat",
    "aten::contiguous",
    "aten::cos",
    "aten::div",
    "aten::embedding",
    "aten::expand",
    "aten::flatten",
    "aten::floordiv",
    "aten::ge",
    "aten::gelu",
    "aten::gt",
    "aten::index_select",
    "aten::layer_norm",
    "aten::lt",
    "aten::mul",
    "aten::neg",
    "aten::permute",
    "aten::pow",
    "aten::reciprocal",
    "aten::relu",
    "aten::reshape",
    "aten::scaled_dot_product_attention",
    "aten::select",
    "aten::sigmoid",
    "aten::sin",
    "aten::size",
    "aten::slice",
    "aten::stack",
    "aten::to",
    "aten::transpose",
    "aten::unbind",
    "aten::unsqueeze",
    "aten::view",
    "idefics::add_norm",
    "idefics::all_reduce",
    "idefics::attend",
    "idefics::attend_image",
    "idefics::linear_int4",
    "idefics::linear_int8",
    "idefics::linear_packed",
    "idefics::rms_norm",
    "idefics::rope_write",
    "idefics::swiglu",
    "prim::CallFunction",
    "prim::CallMethod",
    "prim::Constant",
    "prim::GetAttr",
    "prim::If",
    "prim::ListConstruct",
    "prim::ListUnpack",
    "prim::RaiseException",
    "prim::TupleConstruct",
    "prim::TupleUnpack",
    "prim::device",
    "prim::dtype",
    "prim::is_cuda",
};
// Written by the importer, not in our sources.
constexpr std::string_view kCast = "prim::unchecked_cast";

Status Forbidden(const std::string& what) {
  return Status::InvalidInput(what +
                              ", which no exported model does: nothing of it was run. Trust no "
                              "bundle that you did not export");
}

bool IsLiteral(const jit::TreeRef& tree) {
  switch (tree->kind()) {
    case jit::TK_CONST:
    case jit::TK_STRINGLITERAL:
    case jit::TK_TRUE:
    case jit::TK_FALSE:
    case jit::TK_NONE:
      return true;
    case jit::TK_UNARY_MINUS:
    case jit::TK_LIST_LITERAL:
    case jit::TK_TUPLE_LITERAL:
    case jit::TK_LIST:
      return std::ranges::all_of(tree->trees(), IsLiteral);
    default:
      return false;
  }
}

// Of a function or a class, at any depth.
Status CheckTree(const jit::TreeRef& tree) {
  if (tree->kind() == jit::TK_PARAM) {
    const auto value = jit::Param(tree).defaultValue();
    if (value.present() && !IsLiteral(value.get())) {
      return Forbidden("a default value of a parameter is computed");
    }
  }
  if (tree->kind() == jit::TK_DEF && jit::Def(tree).name().name() == "__setstate__") {
    return Forbidden("it has a __setstate__");
  }
  if (tree->kind() == jit::TK_CLASS_DEF) {
    for (const jit::Stmt& statement : jit::ClassDef(tree).body()) {
      if (statement.kind() != jit::TK_ASSIGN) continue;
      const jit::Assign assign(statement);
      // __annotations__["0"] = a type: it is read, not computed.
      if (assign.lhs().kind() == jit::TK_SUBSCRIPT) continue;
      const auto value = assign.rhs();
      if (value.present() && !IsLiteral(value.get())) {
        return Forbidden("a class computes a constant");
      }
    }
  }
  for (const jit::TreeRef& child : tree->trees()) RETURN_IF_ERROR(CheckTree(child));
  return Status::Ok();
}

Status CheckSource(const std::string& text) {
  jit::Parser parser(std::make_shared<jit::Source>(text));
  while (parser.lexer().cur().kind != jit::TK_EOF) {
    switch (parser.lexer().cur().kind) {
      case jit::TK_CLASS_DEF:
        RETURN_IF_ERROR(CheckTree(parser.parseClass()));
        break;
      case jit::TK_DEF:
        RETURN_IF_ERROR(CheckTree(parser.parseFunction(/*is_method=*/false)));
        break;
      default:
        return Forbidden("its code is neither classes nor functions");
    }
  }
  return Status::Ok();
}

bool IsAllowed(std::string_view name) {
  return name == kCast || std::ranges::binary_search(kOperators, name);
}

Status CheckBlock(const jit::Block& block) {
  for (const jit::Node* node : block.nodes()) {
    const std::string name = node->kind().toQualString();
    if (!IsAllowed(name)) return Forbidden("it calls " + name);
    for (const jit::Block* inner : node->blocks()) RETURN_IF_ERROR(CheckBlock(*inner));
  }
  return Status::Ok();
}

}  // namespace

Status CheckScriptSources(const std::string& archive) {
  std::istringstream stream(archive);
  caffe2::serialize::PyTorchStreamReader reader(&stream);
  for (const std::string& name : reader.getAllRecords()) {
    if (!name.ends_with(".py")) continue;
    const auto [data, size] = reader.getRecord(name);
    RETURN_IF_ERROR(CheckSource(std::string(static_cast<const char*>(data.get()), size)));
  }
  return Status::Ok();
}

Status CheckScriptOperators(const jit::Module& module) {
  const auto unit = module._ivalue()->compilation_unit();
  // To compile a function may bring others.
  for (size_t checked = 0; checked < unit->get_functions().size(); ++checked) {
    const auto* function = jit::tryToGraphFunction(*unit->get_functions()[checked]);
    if (function == nullptr) return Forbidden("it has a function that is no TorchScript");
    RETURN_IF_ERROR(CheckBlock(*function->graph()->block()));
  }
  return Status::Ok();
}

}  // namespace idefics
