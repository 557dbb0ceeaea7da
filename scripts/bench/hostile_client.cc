// SPDX-License-Identifier: Apache-2.0
// hostile_client PORT CONNECTIONS MEGABYTES_PER_SECOND SECONDS: keeps CONNECTIONS to 127.0.0.1, of
// four kinds in equal shares, and sends so many bytes over all of them: heads that never end,
// bodies that never end, requests whose answers nobody reads, and floods of bad requests. Prints
// one JSON line: bytes sent, connections made and lost. One thread that does a few system calls a
// millisecond, so that as little as can be of what is measured is this program's own share of the
// processor.
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPieceBytes = 2048;
constexpr int kMaxPieces = 200;  // of a connection; then it is closed and made anew

enum class Kind { kHalfHead, kHalfBody, kNoReader, kFlood };
constexpr int kNumKinds = 4;

struct Counts {
  long made = 0;
  long lost = 0;  // closed by the server
  size_t bytes = 0;
};

std::string Repeated(const std::string& text, size_t at_least) {
  std::string all;
  while (all.size() < at_least) all += text;
  return all;
}

// What a connection sends first, and then again and again.
struct Script {
  std::string first;
  std::string rest;
  bool reads = true;
};

Script ScriptOf(Kind kind) {
  const std::string head = "POST /predictions HTTP/1.1\r\nHost: localhost\r\n";
  const std::string json = head + "Content-Type: application/json\r\nContent-Length: ";
  switch (kind) {
    case Kind::kHalfHead:
      return {"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", std::string(kPieceBytes / 16, 'x')};
    case Kind::kHalfBody:
      return {json + "50000000\r\n\r\n{\"input\": {\"prompt\": [\"", std::string(kPieceBytes, 'x')};
    case Kind::kNoReader:
      return {"", Repeated("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", kPieceBytes),
              false};
    case Kind::kFlood:
      break;
  }
  return {"", Repeated(json + "9\r\n\r\n{\"input\":" + json + "15\r\n\r\n{\"input\":\"text\"}" +
                           "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n",
                       kPieceBytes)};
}

class Connection {
 public:
  Connection(int port, Kind kind, Counts* counts)
      : port_(port), script_(ScriptOf(kind)), counts_(*counts) {
    Connect();
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void SendPiece() {
    if (script_.reads && PeerClosed()) {
      ++counts_.lost;
      return Reconnect();
    }
    if (++num_pieces_ > kMaxPieces) return Reconnect();
    if (unsent_.empty()) unsent_ = script_.rest;
    const ssize_t n = send(fd_, unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      counts_.bytes += static_cast<size_t>(n);
      unsent_.remove_prefix(static_cast<size_t>(n));
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
      ++counts_.lost;
      Reconnect();
    }
  }

 private:
  void Connect() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // Where it does not work at once, sending finds out.
    [[maybe_unused]] const int result =
        connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    unsent_ = script_.first;
    num_pieces_ = 0;
    ++counts_.made;
  }

  void Reconnect() {
    close(fd_);
    Connect();
  }

  bool PeerClosed() const {
    std::array<char, 65536> bytes;
    return recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT) == 0;
  }

  const int port_;
  const Script script_;
  Counts& counts_;
  int fd_ = -1;
  std::string_view unsent_;
  int num_pieces_ = 0;
};

void Attack(std::vector<std::unique_ptr<Connection>>& connections, double bytes_per_second,
            double seconds, const Counts& counts) {
  const auto begun = Clock::now();
  size_t next = 0;
  for (;;) {
    const double now = std::chrono::duration<double>(Clock::now() - begun).count();
    if (now >= seconds) return;
    // A turn of all at most, in case that nobody takes anything.
    for (size_t i = 0; i < connections.size(); ++i) {
      if (static_cast<double>(counts.bytes) >= now * bytes_per_second) break;
      connections[next]->SendPiece();
      next = (next + 1) % connections.size();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("usage: hostile_client PORT CONNECTIONS MEGABYTES_PER_SECOND SECONDS\n", stderr);
    return 2;
  }
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  Counts counts;
  std::vector<std::unique_ptr<Connection>> connections;
  for (int i = 0; i < std::atoi(argv[2]); ++i) {
    const auto kind = static_cast<Kind>(i % kNumKinds);
    connections.push_back(std::make_unique<Connection>(std::atoi(argv[1]), kind, &counts));
  }
  Attack(connections, 1e6 * std::atof(argv[3]), std::atof(argv[4]), counts);
  std::printf("{\"bytes\": %zu, \"made\": %ld, \"lost\": %ld}\n", counts.bytes, counts.made,
              counts.lost);
  return 0;
}
