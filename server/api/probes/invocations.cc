// SPDX-License-Identifier: Apache-2.0
#include "server/api/probes/invocations.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace idefics {
namespace {

using nlohmann::json;

constexpr const char* kPredictions = "/predictions";

const char* RouteOf(std::string_view key) {
  if (key == "messages") return "/v1/chat/completions";
  if (key == "prompt") return "/v1/completions";
  return key == "input" ? kPredictions : nullptr;
}

// Reads a body as far as the first key of the outermost object that tells; builds nothing.
class TellingKey final : public nlohmann::json_sax<json> {
 public:
  const char* route() const { return route_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return ++depth_ > 0; }
  bool end_object() override { return --depth_ > 0; }
  bool start_array(std::size_t) override { return ++depth_ > 1; }
  bool end_array() override { return --depth_ > 0; }
  bool key(string_t& key) override {
    if (depth_ == 1) route_ = RouteOf(key);
    return route_ == nullptr;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  int depth_ = 0;
  const char* route_ = nullptr;
};

// A peer whose body has been read.
class ReadPeer final : public HttpPeer {
 public:
  ReadPeer(HttpPeer& peer, Result<std::string> body) : peer_(peer), body_(std::move(body)) {}
  Result<std::string> ReadBody() override { return std::move(body_); }
  bool Gone() const override { return peer_.Gone(); }
  void WhenGone(std::function<void()> callback) override { peer_.WhenGone(std::move(callback)); }

 private:
  HttpPeer& peer_;
  Result<std::string> body_;
};

HttpResponse Invoke(const Router& router, HttpRequest& request) {
  Result<std::string> body = request.peer->ReadBody();
  TellingKey key;
  if (body.ok()) json::sax_parse(*body, &key);
  request.path = key.route() == nullptr ? kPredictions : key.route();
  ReadPeer peer(*request.peer, std::move(body));
  HttpPeer* const original = std::exchange(request.peer, &peer);
  HttpResponse response = router.Again(request);
  request.peer = original;
  return response;
}

}  // namespace

void AddInvocations(Router& router) {
  router.Add(
      "POST", "/invocations", [&router](HttpRequest& request) { return Invoke(router, request); },
      Router::Lane::kBody);
}

}  // namespace idefics
