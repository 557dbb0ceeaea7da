// SPDX-License-Identifier: Apache-2.0
#include "server/http/exchange.h"

#include <utility>

#include "server/http/response_writer.h"

namespace idefics {
namespace {

class ConnectionPeer final : public HttpPeer {
 public:
  ConnectionPeer(Connection& connection, BodyReader& body, const ExchangeOptions& options)
      : connection_(connection), body_(body), options_(options) {}
  Result<std::string> ReadBody() override { return body_.Read(); }
  bool Gone() const override { return connection_.PeerGone(); }
  void WhenGone(std::function<void()> callback) override {
    options_.watch_peer(connection_, std::move(callback));
  }

 private:
  Connection& connection_;
  BodyReader& body_;
  const ExchangeOptions& options_;
};

void ReadHead(const RequestHead& head, HttpRequest* out) {
  HttpRequest& request = *out;
  request.method = head.method;
  const size_t path_end = head.target.find('?');
  request.path = head.target.substr(0, path_end);
  if (path_end != std::string::npos) request.query = head.target.substr(path_end + 1);
  request.headers = head.headers;
}

}  // namespace

bool RunExchange(Connection& connection, const RequestHead& head, const Router& router,
                 const ExchangeOptions& options) {
  HttpRequest request;
  request.memory = ByteBudget::Share(options.memory);
  BodyReader body(connection, head, options.body, request.memory);
  ConnectionPeer peer(connection, body, options);
  request.peer = &peer;
  ReadHead(head, &request);
  request.client = connection.peer_name;
  HttpResponse response = router.Route(request);
  body.SkipShort();  // an early refusal need not cost the connection
  const bool ends_by_closing = response.stream != nullptr && head.http_1_0;
  const bool keep_alive = head.keep_alive && body.finished() && !ends_by_closing &&
                          !response.close_connection && !options.draining;
  return WriteResponse(std::move(response), head, keep_alive, connection) && keep_alive;
}

}  // namespace idefics
