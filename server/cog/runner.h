// SPDX-License-Identifier: Apache-2.0
// Runs claimed predictions: on the thread of the request that waits for it, else on one of its own;
// that goes on with the next of the queue. Thread safe.
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

  // REQUIRES (both): `prediction` has a slot, and is run once. The registry is told of its end.
  // Returns at once.
  void Start(std::shared_ptr<Prediction> prediction);
  // Returns at its end. Costs no change of threads, which is most of a short prediction's time.
  void RunHere(const std::shared_ptr<Prediction>& prediction);

 private:
  std::shared_ptr<Prediction> Run(const std::shared_ptr<Prediction>& prediction);

  Backend& backend_;
  Registry& registry_;
  WorkerPool threads_;  // last: its threads use the others
};

}  // namespace idefics
