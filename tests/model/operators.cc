// SPDX-License-Identifier: Apache-2.0
#include "tests/model/operators.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include "predictor/ops/reference/reference.h"
#include "predictor/ops/reference/sampling.h"

namespace idefics::test {
namespace {

// Calls the operator `name` as TorchScript does.
template <typename Signature, typename... Arguments>
at::Tensor Call(const char* name, const Arguments&... arguments) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>().call(
      arguments...);
}

using at::Tensor;

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps) {
  return Call<Tensor(const Tensor&, const Tensor&, double)>("idefics::rms_norm", x, weight, eps);
}

std::tuple<Tensor, Tensor> AddNorm(const Tensor& x, const Tensor& y,
                                   const std::optional<Tensor>& gate, const Tensor& weight,
                                   double eps) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow("idefics::add_norm", "")
      .typed<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const std::optional<Tensor>&,
                                        const Tensor&, double)>()
      .call(x, y, gate, weight, eps);
}

Tensor RopeWrite(const Tensor& qkv, const Tensor& cos, const Tensor& sin, const Tensor& kv_slots,
                 Tensor k_cache, Tensor v_cache) {
  return Call<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, Tensor, Tensor)>(
      "idefics::rope_write", qkv, cos, sin, kv_slots, k_cache, v_cache);
}

Tensor Attend(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
              const Tensor& row_starts, const Tensor& kv_starts, const Tensor& kv_lengths) {
  return Call<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                     const Tensor&)>("idefics::attend", q, k_cache, v_cache, row_starts, kv_starts,
                                     kv_lengths);
}

Tensor AttendImage(const Tensor& q, const Tensor& image_k, const Tensor& image_v,
                   const Tensor& image_slots) {
  return Call<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&)>(
      "idefics::attend_image", q, image_k, image_v, image_slots);
}

Tensor Swiglu(const Tensor& gate_up) {
  return Call<Tensor(const Tensor&)>("idefics::swiglu", gate_up);
}

Tensor LinearPacked(const Tensor& x, const Tensor& weight, int64_t n) {
  return Call<Tensor(const Tensor&, const Tensor&, int64_t)>("idefics::linear_packed", x, weight,
                                                             n);
}

using QuantizedLinear = Tensor(const Tensor&, const Tensor&, const Tensor&, int64_t);

Tensor LinearInt8(const Tensor& x, const Tensor& weight, const Tensor& scale, int64_t n) {
  return Call<QuantizedLinear>("idefics::linear_int8", x, weight, scale, n);
}

Tensor LinearInt4(const Tensor& x, const Tensor& weight, const Tensor& scale, int64_t n) {
  return Call<QuantizedLinear>("idefics::linear_int4", x, weight, scale, n);
}

Tensor SampleTokens(Tensor logits, const Tensor& sampling_params, Tensor history) {
  return Call<Tensor(Tensor, const Tensor&, Tensor)>("idefics::sample_tokens", logits,
                                                     sampling_params, history);
}

Tensor GatherLastTokens(const Tensor& tokens, const Tensor& kv_slots, Tensor history) {
  return Call<Tensor(const Tensor&, const Tensor&, Tensor)>("idefics::gather_last_tokens", tokens,
                                                            kv_slots, history);
}

}  // namespace

Operators ReferenceOperators() {
  return {"reference",           reference::RmsNorm,      reference::AddNorm,
          reference::RopeWrite,  reference::Attend,       reference::AttendImage,
          reference::Swiglu,     reference::LinearPacked, reference::LinearInt8,
          reference::LinearInt4, reference::SampleTokens, reference::GatherLastTokens};
}

Operators RegisteredOperators() {
  return {"registered", RmsNorm,      AddNorm,    RopeWrite,  Attend,       AttendImage,
          Swiglu,       LinearPacked, LinearInt8, LinearInt4, SampleTokens, GatherLastTokens};
}

}  // namespace idefics::test
