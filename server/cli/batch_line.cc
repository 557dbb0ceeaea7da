// SPDX-License-Identifier: Apache-2.0
#include "server/cli/batch_line.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "common/random_id.h"

namespace idefics {
namespace {

using nlohmann::json;
using Form = CompletionRequest::Form;

std::optional<Form> FormOf(const json& line) {
  const json url = line.value("url", json());
  const json method = line.value("method", json("POST"));
  if (!url.is_string() || method != json("POST")) return std::nullopt;
  const auto& path = url.get_ref<const std::string&>();
  if (path == "/v1/chat/completions") return Form::kChat;
  if (path == "/v1/completions") return Form::kText;
  return std::nullopt;
}

}  // namespace

bool IsBatchLine(const json& line) { return line.is_object() && line.contains("custom_id"); }

std::optional<json> AnswerBatchLine(const json& line, const OfflineSetting& setting,
                                    const std::stop_token& stop) {
  json row = {{"id", "batch_req_" + RandomHex()},
              {"custom_id", line["custom_id"]},
              {"response", nullptr},
              {"error", nullptr}};
  const std::optional<Form> form = FormOf(line);
  if (!line["custom_id"].is_string() || !form || !line.contains("body")) {
    row["error"] = {{"code", "invalid_request"},
                    {"message",
                     "a line needs a custom_id, POST as its method, /v1/chat/completions "
                     "or /v1/completions as its url, and a body"}};
    return row;
  }
  OfflineAnswer answer = AnswerOffline(*form, line["body"], setting, stop);
  if (answer.canceled) return std::nullopt;
  row["response"] = {{"status_code", answer.status},
                     {"request_id", "req_" + RandomHex()},
                     {"body", std::move(answer.body)}};
  return row;
}

bool BatchRowFailed(const json& row) {
  const json response = row.value("response", json());
  return !response.is_object() || response.value("status_code", 0) != 200;
}

}  // namespace idefics
