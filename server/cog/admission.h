// SPDX-License-Identifier: Apache-2.0
// The way from a request to a prediction that holds an id and a place (cog-contract.md 1.5, 1.6).
// Cog's own routes and Replicate's both begin here. Thread safe.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "server/cog/backend.h"
#include "server/cog/registry.h"
#include "server/cog/runner.h"
#include "server/cog/setup_state.h"
#include "server/cog/webhook.h"
#include "server/http/message.h"

namespace idefics {

// What the routes stand on; all of it outlives them.
struct CogParts {
  Backend& backend;
  Registry& registry;
  Runner& runner;
  SetupState& setup;
  WebhookSender& webhooks;
  std::function<void()> request_shutdown;  // returns at once
};

struct AdmissionOptions {
  OutputKind output = OutputKind::kString;
  size_t stream_history = 1024;
};

class Admission {
 public:
  struct Admitted {
    std::shared_ptr<Prediction> prediction;
    bool is_new = false;    // false: a PUT met its running twin
    bool has_slot = false;  // the caller must have the runner run it; else it waits in the queue
    nlohmann::json at_receipt;  // of a new one: its snapshot before anything happened
  };

  Admission(CogParts parts, AdmissionOptions options) : parts_(parts), options_(options) {}

  // What the request's path and headers say.
  struct Wish {
    const std::string* path_id;  // of a PUT, else nullptr
    std::string model;           // of Replicate's routes, else ""
    bool stream;                 // an event stream is wanted
    bool receipt;                // at_receipt is wanted
  };

  // Body, id, in flight, input, readiness, capacity: in the order of the contract. The second: the
  // answer to give instead.
  std::variant<Admitted, HttpResponse> Admit(HttpRequest& request, const Wish& wish);

  const CogParts& parts() const { return parts_; }
  OutputKind output() const { return options_.output; }

 private:
  std::variant<Admitted, HttpResponse> Claim(PredictionRequest wanted, const Wish& wish);

  const CogParts parts_;
  const AdmissionOptions options_;
};

// The bytes of a JSON body; text that is not UTF-8 is replaced.
std::string JsonBytes(const nlohmann::json& value);

}  // namespace idefics
