// SPDX-License-Identifier: Apache-2.0
// `idefics-server preprocess FILE...`: what the model sees of each image, one JSON line a file.
//   {"file":"a.jpg","width":640,"height":480,"format":"JPEG","sha256":"64 hex digits"}
//   {"file":"b.jpg","error":"the JPEG image cannot be read (...): ..."}
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "predictor/images/preprocess.h"

namespace idefics {

struct PreprocessOptions {
  // Open as a URL in a prompt is (ImagePolicy::kUprightAlphaDropped), not as a Pillow object.
  bool as_url = false;
  std::string out_dir;  // where to write FILE's stem + ".png"; empty: nowhere
  ProcessorConstants constants;
  ImageLimits limits;
};

// Exit code: 0 when every file could be read (and written), else 1. A file of this call never
// overwrites another's PNG: "cat.png", "cat-2.png", ...; those of an earlier call are replaced.
int RunPreprocess(const std::vector<std::string>& files, const PreprocessOptions& options,
                  std::ostream& out);

}  // namespace idefics
