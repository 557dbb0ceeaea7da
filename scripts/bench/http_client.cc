// SPDX-License-Identifier: Apache-2.0
// http_client PORT CLIENTS SECONDS METHOD PATH [BODY_FILE]: keeps CLIENTS keep-alive connections to
// 127.0.0.1 busy, one request at a time on each, for SECONDS, and prints one JSON line: answers by
// status, how many bodies say "succeeded", requests a second, and round trips in microseconds. One
// thread and no library, so that as little as can be of what is measured is the client.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Counts {
  std::map<int, long> by_status;
  long succeeded = 0;
  std::vector<double> round_trips_us;  // of those that succeeded, or of all GETs
};

class Client {
 public:
  Client(int port, int epoll, std::string request)
      : port_(port), epoll_(epoll), request_(std::move(request)) {
    Connect();
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void Send() {
    begun_ = Clock::now();
    answer_.clear();
    if (send(fd_, request_.data(), request_.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request_.size())) {
      Reconnect();
    }
  }

  // Reads what is there; at the end of an answer counts it and sends the next request.
  void OnReadable(Counts* counts) {
    std::array<char, 65536> bytes;
    const ssize_t n = recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n < 0) return;
    if (n == 0) return Reconnect();
    answer_.append(bytes.data(), static_cast<size_t>(n));
    const size_t head_end = answer_.find("\r\n\r\n");
    if (head_end == std::string::npos) return;
    if (answer_.size() - head_end - 4 < ContentLength(head_end)) return;
    Count(counts);
    Send();
  }

 private:
  void Connect() {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      std::perror("http_client: connect");
      std::exit(1);
    }
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event event{EPOLLIN, {.ptr = this}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event);
  }

  void Reconnect() {
    close(fd_);
    Connect();
    Send();
  }

  size_t ContentLength(size_t head_end) const {
    std::string head = answer_.substr(0, head_end);
    std::transform(head.begin(), head.end(), head.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const size_t at = head.find("content-length:");
    return at == std::string::npos ? 0 : std::strtoul(head.c_str() + at + 15, nullptr, 10);
  }

  void Count(Counts* counts) {
    const int status = std::atoi(answer_.c_str() + 9);  // after "HTTP/1.1 "
    ++counts->by_status[status];
    const bool succeeded = answer_.find("\"succeeded\"") != std::string::npos;
    if (succeeded) ++counts->succeeded;
    if (status == 200) {
      counts->round_trips_us.push_back(
          std::chrono::duration<double, std::micro>(Clock::now() - begun_).count());
    }
  }

  const int port_;
  const int epoll_;
  const std::string request_;
  int fd_ = -1;
  std::string answer_;
  Clock::time_point begun_;
};

std::string ReadFile(const char* path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

double Quantile(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<size_t>(q * static_cast<double>(sorted.size() - 1))];
}

void Print(Counts counts, double seconds) {
  std::sort(counts.round_trips_us.begin(), counts.round_trips_us.end());
  std::printf("{\"statuses\": {");
  const char* comma = "";
  for (const auto& [status, count] : counts.by_status) {
    std::printf("%s\"%d\": %ld", comma, status, count);
    comma = ", ";
  }
  std::printf(
      "}, \"succeeded\": %ld, \"per_second\": %.1f, \"p50_us\": %.1f, \"p95_us\": %.1f, "
      "\"p99_us\": %.1f}\n",
      counts.succeeded, static_cast<double>(counts.succeeded) / seconds,
      Quantile(counts.round_trips_us, 0.5), Quantile(counts.round_trips_us, 0.95),
      Quantile(counts.round_trips_us, 0.99));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fputs("usage: http_client PORT CLIENTS SECONDS METHOD PATH [BODY_FILE]\n", stderr);
    return 2;
  }
  const double seconds = std::atof(argv[3]);
  const std::string body = argc > 6 ? ReadFile(argv[6]) : "";
  std::string request = std::string(argv[4]) + " " + argv[5] + " HTTP/1.1\r\nHost: localhost\r\n";
  if (!body.empty()) {
    request +=
        "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  }
  request += "\r\n" + body;
  const int epoll = epoll_create1(0);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < std::atoi(argv[2]); ++i) {
    clients.push_back(std::make_unique<Client>(std::atoi(argv[1]), epoll, request));
  }
  Counts counts;
  const auto begun = Clock::now();
  const auto end = begun + std::chrono::duration<double>(seconds);
  for (const auto& client : clients) client->Send();
  std::array<epoll_event, 64> events;
  while (Clock::now() < end) {
    const int n = epoll_wait(epoll, events.data(), events.size(), 100);
    for (int i = 0; i < n; ++i) static_cast<Client*>(events[i].data.ptr)->OnReadable(&counts);
  }
  Print(std::move(counts), std::chrono::duration<double>(Clock::now() - begun).count());
  return 0;
}
