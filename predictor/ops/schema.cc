// SPDX-License-Identifier: Apache-2.0
// Schemas of the idefics:: operators. Every exported bundle refers to them.
#include <torch/library.h>

#include "predictor/ops/all_reduce.h"
#include "predictor/ops/operators.h"
#include "predictor/ops/reference/reference.h"
#include "predictor/ops/reference/sampling.h"

void idefics::UseOperators() {}

void idefics::UseReferenceOperators() {
  for (const c10::DispatchKey device : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA}) {
    // Never deleted: that would take the registrations back.
    auto* library = new torch::Library(torch::Library::IMPL, "idefics", device, __FILE__, __LINE__);
    library->impl("rms_norm", reference::RmsNorm);
    library->impl("add_norm", reference::AddNorm);
    library->impl("rope_write", reference::RopeWrite);
    library->impl("attend", reference::Attend);
    library->impl("attend_image", reference::AttendImage);
    library->impl("swiglu", reference::Swiglu);
  }
}

TORCH_LIBRARY(idefics, library) {
  library.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  library.def(
      "add_norm(Tensor x, Tensor y, Tensor? gate, Tensor weight, float eps) -> (Tensor, Tensor)");
  library.def(
      "rope_write(Tensor qkv, Tensor cos, Tensor sin, Tensor kv_slots, Tensor(a!) k_cache, "
      "Tensor(b!) v_cache) -> Tensor");
  library.def(
      "attend(Tensor q, Tensor k_cache, Tensor v_cache, Tensor row_starts, Tensor kv_starts, "
      "Tensor kv_lengths) -> Tensor");
  library.def(
      "attend_image(Tensor q, Tensor image_k, Tensor image_v, Tensor image_slots) -> Tensor");
  // weight: packed_weight.h; on CUDA also W [n, k] itself.
  library.def("linear_packed(Tensor x, Tensor weight, int n) -> Tensor");
  library.def("linear_int8(Tensor x, Tensor weight, Tensor scale, int n) -> Tensor");
  library.def("linear_int4(Tensor x, Tensor weight, Tensor scale, int n) -> Tensor");
  library.def("swiglu(Tensor gate_up) -> Tensor");
  library.def("all_reduce(Tensor(a) x) -> Tensor(a)");
  library.def(
      "sample_tokens(Tensor(a!) logits, Tensor sampling_params, Tensor(b!) history) -> Tensor");
  library.def("gather_last_tokens(Tensor tokens, Tensor kv_slots, Tensor(a!) history) -> Tensor");
}

TORCH_LIBRARY_IMPL(idefics, CompositeExplicitAutograd, library) {
  library.impl("rms_norm", idefics::reference::RmsNorm);
  library.impl("add_norm", idefics::reference::AddNorm);
  library.impl("rope_write", idefics::reference::RopeWrite);
  library.impl("attend", idefics::reference::Attend);
  library.impl("attend_image", idefics::reference::AttendImage);
  library.impl("linear_packed", idefics::reference::LinearPacked);
  library.impl("linear_int8", idefics::reference::LinearInt8);
  library.impl("linear_int4", idefics::reference::LinearInt4);
  library.impl("swiglu", idefics::reference::Swiglu);
  library.impl("all_reduce", idefics::AllReduce);
  library.impl("sample_tokens", idefics::reference::SampleTokens);
  library.impl("gather_last_tokens", idefics::reference::GatherLastTokens);
}
