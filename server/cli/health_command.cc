// SPDX-License-Identifier: Apache-2.0
#include "server/cli/health_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "server/fetch/http_probe.h"

namespace idefics {
namespace {

constexpr auto kTime = std::chrono::seconds(4);

// Where a server that listens on `host` can be reached from here.
std::string Reachable(const std::string& host) {
  if (host == "0.0.0.0" || host == "::" || host.empty()) return "localhost";
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

std::string Address(const FlagValues& flags) {
  return "http://" + Reachable(flags.Text("host")) + ":" + std::to_string(flags.Integer("port"));
}

int NoAnswer(const Status& status) {
  std::fprintf(stderr, "idefics-server: no answer from %s\n", status.message().c_str());
  return 1;
}

}  // namespace

int RunHealth(const FlagValues& flags) {
  const auto answer = Probe(Address(flags) + "/health-check", kTime);
  if (!answer.ok()) return NoAnswer(answer.status());
  const auto health = nlohmann::json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  const auto member = health.is_object() ? health.find("status") : health.end();
  const std::string status =
      member != health.end() && member->is_string() ? member->get<std::string>() : "";
  std::puts(status.empty() ? "no status" : status.c_str());
  return status == "READY" || status == "BUSY" ? 0 : 1;
}

int RunProbe(const FlagValues& flags, const std::string& url) {
  const bool is_path = url.starts_with("/");
  const auto answer =
      Probe(is_path || url.empty() ? Address(flags) + (is_path ? url : "/readyz") : url, kTime);
  if (!answer.ok()) return NoAnswer(answer.status());
  const bool good = answer->status >= 200 && answer->status < 300;
  std::printf("%ld %s\n", answer->status, answer->body.substr(0, answer->body.find('\n')).c_str());
  return good ? 0 : 1;
}

}  // namespace idefics
