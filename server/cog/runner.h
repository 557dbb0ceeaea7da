// SPDX-License-Identifier: Apache-2.0
// Runs claimed predictions, each slot's on a thread of its own; a thread that has ended one goes on
// with the next of the queue.
#pragma once

#include <memory>

#include "server/cog/backend.h"
#include "server/cog/registry.h"
#include "server/http/worker_pool.h"

namespace idefics {

class Runner {
 public:
  // Both must outlive the runner.
  Runner(Backend& backend, Registry& registry);

  // REQUIRES: `prediction` holds a claim. Returns at once; the registry is told of its end.
  void Start(std::shared_ptr<Prediction> prediction);

 private:
  std::shared_ptr<Prediction> Run(const std::shared_ptr<Prediction>& prediction);

  Backend& backend_;
  Registry& registry_;
  WorkerPool threads_;  // last: its threads use the others
};

}  // namespace idefics
