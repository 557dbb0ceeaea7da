// SPDX-License-Identifier: Apache-2.0
// Answers the lines of a JSONL file: inputs of Cog's API, or of an OpenAI batch file
// (batch_line.h). Several lines run at once; each answer is written the moment it is there, so a
// stop loses only what was running; when all are there the file is put in input order.
//
// The output is its own journal: a line holds the number of its input line ("line", from 1). A
// second run skips those, after cutting off a torn last line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "common/progress.h"
#include "server/api/openai/completion_request.h"
#include "server/cli/answer.h"

namespace idefics {

struct JsonlPaths {
  std::string input;
  std::string output;
  bool details = false;
  bool retry_failed = false;  // lines that have failed before are answered again
};

class JsonlRun {
 public:
  // `predictor` and `images` must outlive the run.
  JsonlRun(JsonlPaths paths, Predictor& predictor, ImageSource& images, AnswerOptions options,
           OpenAiOptions openai);

  // Errors: a file cannot be read or written, or the output belongs to another input. A bad line is
  // an answer with status "failed", not an error.
  Status Run(std::stop_token stop);

 private:
  Status CountLines();
  Status ReadJournal();
  Status OpenFiles();
  bool NextLine(std::string* text, uint64_t* number);
  void Work(const std::stop_token& stop);
  // nullopt: `stop` was obeyed.
  std::optional<nlohmann::json> AnswerLine(const std::string& text, const std::stop_token& stop);
  nlohmann::json AnswerInputLine(nlohmann::json input, const std::stop_token& stop);
  void Write(const nlohmann::json& answer);
  Status SortOutput() const;

  const JsonlPaths paths_;
  Predictor& predictor_;
  ImageSource& images_;
  const AnswerOptions options_;
  const OpenAiOptions openai_;
  uint64_t num_lines_ = 0;                // with something on them
  std::map<uint64_t, std::string> done_;  // line number -> id in the output so far
  Mutex mutex_;                           // of all below
  std::ifstream in_;
  std::ofstream out_;
  uint64_t next_line_ = 0;
  uint64_t last_written_ = 0;
  bool in_order_ = true;
  uint64_t num_failed_ = 0;
  Status status_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace idefics
