// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/url_policy.h"

#include <netinet/in.h>
#include <strings.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "common/utf8.h"

namespace idefics {
namespace {

struct Ipv4Block {
  uint32_t prefix;
  int bits;
};

// IANA's special-purpose registry.
constexpr Ipv4Block kDenied[] = {
    {0x00000000, 8},   // 0/8 this network
    {0x0a000000, 8},   // 10/8 private
    {0x64400000, 10},  // 100.64/10 carrier NAT
    {0x7f000000, 8},   // 127/8 loopback
    {0xa9fe0000, 16},  // 169.254/16 link-local, cloud metadata
    {0xa83f8110, 32},  // 168.63.129.16 Azure's host
    {0xac100000, 12},  // 172.16/12 private
    {0xc0000000, 24},  // 192.0.0/24 protocol assignments
    {0xc0000200, 24},  // 192.0.2/24 documentation
    {0xc0586300, 24},  // 192.88.99/24 6to4 relays
    {0xc0a80000, 16},  // 192.168/16 private
    {0xc6120000, 15},  // 198.18/15 benchmarks
    {0xc6336400, 24},  // 198.51.100/24 documentation
    {0xcb007100, 24},  // 203.0.113/24 documentation
    {0xe0000000, 3},   // 224/3 multicast and reserved
};

bool IsPublicIpv4(uint32_t address) {
  return std::none_of(std::begin(kDenied), std::end(kDenied), [&](const Ipv4Block& block) {
    return (address ^ block.prefix) >> (32 - block.bits) == 0;
  });
}

uint32_t Ipv4At(const uint8_t* bytes) {
  return static_cast<uint32_t>(bytes[0]) << 24 | static_cast<uint32_t>(bytes[1]) << 16 |
         static_cast<uint32_t>(bytes[2]) << 8 | bytes[3];
}

bool StartsWith(const uint8_t* address, std::initializer_list<uint8_t> prefix) {
  return std::equal(prefix.begin(), prefix.end(), address);
}

bool IsPublicIpv6(const uint8_t* address) {
  constexpr size_t kMappedOffset = 12;
  if (StartsWith(address, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})) {  // ::ffff:a.b.c.d
    return IsPublicIpv4(Ipv4At(address + kMappedOffset));
  }
  if (StartsWith(address, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0})) {  // 64:ff9b::/96
    return IsPublicIpv4(Ipv4At(address + kMappedOffset));
  }
  if (StartsWith(address, {0x20, 0x02})) return IsPublicIpv4(Ipv4At(address + 2));  // 6to4
  if (StartsWith(address, {0x20, 0x01, 0, 0})) return false;                        // Teredo
  if (StartsWith(address, {0x20, 0x01, 0, 2, 0, 0})) return false;                  // benchmarks
  if (StartsWith(address, {0x20, 0x01, 0x0d, 0xb8})) return false;                  // documentation
  if (StartsWith(address, {0x20, 0x01, 0})) {  // ORCHID, old and new
    if (address[3] >> 4 == 1 || address[3] >> 4 == 2) return false;
  }
  if (StartsWith(address, {0x3f, 0xff}) && address[2] >> 4 == 0) return false;  // documentation
  return address[0] >> 5 == 1;                                                  // 2000::/3
}

// 127/8, also mapped into IPv6; ::1.
bool IsLoopbackAddress(const sockaddr& address) {
  constexpr uint8_t kLoopbackNet = 127;
  constexpr size_t kMappedOffset = 12;
  if (address.sa_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(address);
    return ntohl(ipv4.sin_addr.s_addr) >> 24 == kLoopbackNet;
  }
  if (address.sa_family != AF_INET6) return false;
  const uint8_t* ipv6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr.s6_addr;
  if (StartsWith(ipv6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})) {
    return ipv6[kMappedOffset] == kLoopbackNet;
  }
  return StartsWith(ipv6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
}

}  // namespace

Status CheckUrl(const std::string& url) {
  const auto forbidden = [&](const std::string& why) {
    return Status(ErrorCode::kForbiddenUrl, "image URL '" + ShownUrl(url) + "' " + why);
  };
  size_t authority = 0;
  for (const char* prefix : {"http://", "https://"}) {
    if (strncasecmp(url.c_str(), prefix, std::strlen(prefix)) == 0) authority = std::strlen(prefix);
  }
  if (authority == 0) return forbidden("is neither http nor https: use one of these or a data URI");
  constexpr size_t kMaxUrlBytes = 65536;
  if (url.size() > kMaxUrlBytes) return forbidden("is longer than 65536 bytes");
  if (std::any_of(url.begin(), url.end(),
                  [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; })) {
    return forbidden("holds a space or a control character: percent-encode it");
  }
  const std::string host = url.substr(authority, url.find_first_of("/?#", authority) - authority);
  if (host.empty()) return forbidden("names no host");
  if (host.find('@') != std::string::npos) return forbidden("holds a user name: leave it out");
  return Status::Ok();
}

bool MayConnect(const sockaddr& address, Reach reach) {
  if (IsMetadataAddress(address)) return false;
  if (reach == Reach::kAny || IsPublicAddress(address)) return true;
  return reach == Reach::kPublicAndLoopback && IsLoopbackAddress(address);
}

bool IsPublicAddress(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(address);
    return IsPublicIpv4(ntohl(ipv4.sin_addr.s_addr));
  }
  if (address.sa_family == AF_INET6) {
    return IsPublicIpv6(reinterpret_cast<const sockaddr_in6&>(address).sin6_addr.s6_addr);
  }
  return false;
}

bool IsMetadataAddress(const sockaddr& address) {
  constexpr uint32_t kIpv4[] = {
      0xa9fea9fe,  // 169.254.169.254 most clouds
      0xa9feaa02,  // 169.254.170.2 credentials of AWS tasks
      0xa9feaa17,  // 169.254.170.23 and of its pods
      0xa83f8110,  // 168.63.129.16 Azure's host
      0x646464c8,  // 100.100.100.200 Alibaba
  };
  const auto is_ipv4 = [&](uint32_t ip) {
    return std::find(std::begin(kIpv4), std::end(kIpv4), ip) != std::end(kIpv4);
  };
  if (address.sa_family == AF_INET) {
    return is_ipv4(ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr));
  }
  if (address.sa_family != AF_INET6) return false;
  const uint8_t* ipv6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr.s6_addr;
  constexpr size_t kWrappedOffset = 12;  // of an IPv4 address: mapped, NAT64
  if (StartsWith(ipv6, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}) ||
      StartsWith(ipv6, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0})) {
    return is_ipv4(Ipv4At(ipv6 + kWrappedOffset));
  }
  return StartsWith(ipv6, {0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54}) ||
         StartsWith(ipv6, {0xfd, 0x20, 0, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54});
}

std::string ShownUrl(const std::string& url) {
  constexpr size_t kShownBytes = 100;
  return Abbreviate(url, kShownBytes);
}

}  // namespace idefics
