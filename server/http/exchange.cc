// SPDX-License-Identifier: Apache-2.0
//
// cpp-httplib 0.41 percent-decodes header values, reads bodies leniently, serves Range on JSON and
// answers 400 to methods it does not know. So the request is parsed and its body read by our own
// strict code, and httplib gets a canonical head without a body; what it does here is to write the
// answer.
#include "server/http/exchange.h"

#include <httplib.h>

#include <utility>

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

struct Exchange {
  Connection& connection;
  const RequestHead& head;
  const Router& router;
  const ExchangeOptions& options;
  BodyReader body;
  bool keep = false;
};

// process_request hands no context to its handlers; an exchange never leaves its thread.
thread_local Exchange* current_exchange = nullptr;

class ExchangeStream final : public httplib::Stream {
 public:
  ExchangeStream(Exchange& exchange, std::string head)
      : exchange_(exchange), head_(std::move(head)) {}

  bool is_readable() const override { return offset_ < head_.size(); }
  bool wait_readable() const override { return is_readable(); }
  bool wait_writable() const override { return true; }  // write() itself waits
  bool is_peer_alive() const override { return !exchange_.connection.PeerGone(); }
  ssize_t read(char* bytes, size_t size) override {
    size = std::min(size, head_.size() - offset_);
    head_.copy(bytes, size, offset_);
    offset_ += size;
    return static_cast<ssize_t>(size);
  }
  ssize_t write(const char* bytes, size_t size) override {
    const bool ok = exchange_.connection.WriteAll({bytes, size}, exchange_.options.write_stall);
    return ok ? static_cast<ssize_t>(size) : -1;
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return INVALID_SOCKET; }
  time_t duration() const override { return 0; }

 private:
  Exchange& exchange_;
  std::string head_;
  size_t offset_ = 0;
};

class SinkWriter final : public BodyWriter {
 public:
  SinkWriter(httplib::DataSink& sink, const Connection& connection)
      : sink_(sink), connection_(connection) {}
  bool Write(std::string_view piece) override {
    if (piece.empty()) return ok_;
    ok_ = ok_ && sink_.write(piece.data(), piece.size());
    return ok_;
  }
  bool PeerGone() const override { return !ok_ || connection_.PeerGone(); }
  bool ok() const { return ok_; }

 private:
  httplib::DataSink& sink_;
  const Connection& connection_;
  bool ok_ = true;
};

void SetBody(HttpResponse response, const Exchange& exchange, httplib::Response& out) {
  out.status = response.status;
  std::string type;
  for (auto& [name, value] : response.headers) {
    if (name == "Content-Type") {
      type = value;
    } else {
      out.set_header(name, value);
    }
  }
  if (!response.stream) {
    if (!type.empty()) out.set_header("Content-Type", type);
    out.body = std::move(response.body);
    return;
  }
  auto provider = [stream = std::move(response.stream), &exchange](size_t,
                                                                   httplib::DataSink& sink) {
    SinkWriter writer(sink, exchange.connection);
    stream(writer);
    if (writer.ok()) sink.done();
    return writer.ok();
  };
  if (exchange.head.http_1_0) {
    out.set_content_provider(type, provider);
  } else {
    out.set_chunked_content_provider(type, provider);
  }
}

// Answers every request from its pre-routing handler, before httplib would read a body.
class AnswerWriter final : public httplib::Server {
 public:
  AnswerWriter() {
    svr_sock_ = 0;  // any valid value: "not shutting down", else streamed bodies would be cut
    set_pre_routing_handler([](const httplib::Request&, httplib::Response& out) {
      Answer(*current_exchange, out);
      return HandlerResponse::Handled;
    });
    set_post_routing_handler([](const httplib::Request&, httplib::Response& out) {
      const Exchange& exchange = *current_exchange;
      // httplib closes after every status >= 400 and invents these three; the wish is ours.
      for (const char* name : {"Connection", "Keep-Alive", "Accept-Ranges"})
        out.headers.erase(name);
      if (!exchange.keep) out.set_header("Connection", "close");
      if (exchange.keep && exchange.head.http_1_0) out.set_header("Connection", "keep-alive");
    });
  }

  bool Run(Exchange& exchange) {
    const std::string& method = exchange.head.method;
    std::string canonical = method == "HEAD" || method == "GET" ? method : "POST";
    canonical += " / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    ExchangeStream stream(exchange, std::move(canonical));
    current_exchange = &exchange;
    bool closed = false;
    const bool written = process_request(stream, "", 0, "", 0, false, closed, nullptr);
    current_exchange = nullptr;
    return written && exchange.keep;
  }

 private:
  static void Answer(Exchange& exchange, httplib::Response& out) {
    ConnectionPeer peer(exchange.connection, exchange.body, exchange.options);
    HttpRequest request;
    request.method = exchange.head.method;
    const std::string& target = exchange.head.target;
    const size_t path_end = target.find_first_of("?#");
    request.path = target.substr(0, path_end);
    if (path_end != std::string::npos && target[path_end] == '?') {
      request.query = target.substr(path_end + 1);
    }
    request.headers = exchange.head.headers;
    request.peer = &peer;
    HttpResponse response = exchange.router.Route(request);
    const bool close_delimited = response.stream != nullptr && exchange.head.http_1_0;
    exchange.keep = exchange.head.keep_alive && exchange.body.finished() && !close_delimited &&
                    !response.close_connection && !exchange.options.draining;
    SetBody(std::move(response), exchange, out);
  }
};

}  // namespace

bool RunExchange(Connection& connection, const RequestHead& head, const Router& router,
                 const ExchangeOptions& options) {
  static AnswerWriter writer;
  Exchange exchange{connection, head, router, options, BodyReader(connection, head, options.body)};
  return writer.Run(exchange);
}

std::string RefusalBytes(int status, const std::string& message) {
  return "HTTP/1.1 " + std::to_string(status) + " " + httplib::status_message(status) +
         "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " +
         std::to_string(message.size()) + "\r\nConnection: close\r\n\r\n" + message;
}

}  // namespace idefics
