// SPDX-License-Identifier: Apache-2.0
#include "server/cli/health_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "server/fetch/http_probe.h"

namespace idefics {
namespace {

// Where a server that listens on `host` can be reached from here.
std::string Reachable(const std::string& host) {
  if (host == "0.0.0.0" || host == "::" || host.empty()) return "localhost";
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

}  // namespace

int RunHealth(const FlagValues& flags) {
  constexpr auto kTime = std::chrono::seconds(4);
  const auto answer = Probe("http://" + Reachable(flags.Text("host")) + ":" +
                                std::to_string(flags.Integer("port")) + "/health-check",
                            kTime);
  if (!answer.ok()) {
    std::fprintf(stderr, "idefics-server: no answer from %s\n", answer.status().message().c_str());
    return 1;
  }
  const auto health = nlohmann::json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  const auto member = health.is_object() ? health.find("status") : health.end();
  const std::string status =
      member != health.end() && member->is_string() ? member->get<std::string>() : "";
  std::puts(status.empty() ? "no status" : status.c_str());
  return status == "READY" || status == "BUSY" ? 0 : 1;
}

}  // namespace idefics
