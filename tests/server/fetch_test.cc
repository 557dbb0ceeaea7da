// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <netinet/in.h>

#include <catch2/catch_test_macros.hpp>
#include <cstring>

#include "server/fetch/data_uri.h"
#include "server/fetch/host_list.h"
#include "server/fetch/image_fetcher.h"
#include "server/fetch/url_policy.h"

namespace idefics {
namespace {

std::string Decoded(std::string_view uri) {
  const auto bytes = DecodeDataUri(uri, 1000);
  return bytes.ok() ? std::string(bytes->begin(), bytes->end())
                    : "error: " + bytes.status().message();
}

TEST_CASE("a data URI decodes as Python's urllib does it", "[fetch]") {
  CHECK(Decoded("data:text/plain;base64,aGk=") == "hi");
  CHECK(Decoded("DATA:image/png;charset=x;BASE64,aGk=") == "hi");
  CHECK(Decoded("data:,a%20b") == "a b");
  CHECK(Decoded("data:;base64,aG k=\n") == "hi");
  CHECK(Decoded("data:;base64,a-G*k=") == "hi");
  CHECK(Decoded("data:;base64,aGk%3D") == "hi");
  CHECK(Decoded("data:;base64,").empty());
  CHECK(Decoded("data:,%zz%4") == "%zz%4");
}

TEST_CASE("a broken data URI is an error that says how to write one", "[fetch]") {
  CHECK(Decoded("data:image/png;base64").find("no comma") != std::string::npos);
  CHECK(Decoded("data:;base64,aGk").find("breaks off") != std::string::npos);
  CHECK(Decoded("data:;base64,a").find("breaks off") != std::string::npos);
  CHECK(Decoded("data:," + std::string(1001, 'x')).find("the limit is 1000") != std::string::npos);
}

TEST_CASE("a failure says which image it is about", "[fetch]") {
  ImageFetcher fetcher(FetchOptions{});
  const auto item = [&](const std::vector<std::string>& references) {
    const auto files = fetcher.Fetch(references, {}, {});
    REQUIRE_FALSE(files.ok());
    return files.status().item();
  };
  CHECK(item({"data:,a", "data:,a", "data:;base64,a"}) == 2);
  CHECK(item({"data:,a", "ftp://x.org", "data:;base64,a"}) == 1);
  CHECK(item({"http://127.0.0.1/a.png"}) == 0);  // once it runs
}

sockaddr_storage Address(const char* text) {
  sockaddr_storage address{};
  auto* ipv4 = reinterpret_cast<sockaddr_in*>(&address);
  auto* ipv6 = reinterpret_cast<sockaddr_in6*>(&address);
  if (inet_pton(AF_INET, text, &ipv4->sin_addr) == 1) {
    address.ss_family = AF_INET;
  } else {
    REQUIRE(inet_pton(AF_INET6, text, &ipv6->sin6_addr) == 1);
    address.ss_family = AF_INET6;
  }
  return address;
}

bool IsPublic(const char* text) {
  const sockaddr_storage address = Address(text);
  return IsPublicAddress(reinterpret_cast<const sockaddr&>(address));
}

bool IsMetadata(const char* text) {
  const sockaddr_storage address = Address(text);
  return IsMetadataAddress(reinterpret_cast<const sockaddr&>(address));
}

TEST_CASE("addresses of metadata are known however they are written", "[fetch]") {
  for (const char* denied :
       {"169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200",
        "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "fd20:ce::254"}) {
    INFO(denied);
    CHECK(IsMetadata(denied));
  }
  for (const char* other : {"169.254.1.1", "127.0.0.1", "::1", "fd00:ec2::253", "8.8.8.8"}) {
    INFO(other);
    CHECK_FALSE(IsMetadata(other));
  }
}

TEST_CASE("a list of hosts holds names, what is below a name, or all", "[fetch]") {
  const HostList hosts(" example.org , .Images.example.net,,[::1]");
  for (const char* held : {"example.org", "EXAMPLE.org", "example.org.", "a.images.example.net",
                           "b.a.images.example.net", "[::1]"}) {
    INFO(held);
    CHECK(hosts.Holds(held));
  }
  for (const char* other :
       {"", ".", "www.example.org", "example.org.evil.example", "notexample.org",
        "images.example.net", ".images.example.net", "evil-images.example.net", "::1"}) {
    INFO(other);
    CHECK_FALSE(hosts.Holds(other));
  }
  CHECK(HostList("").empty());
  CHECK(HostList(" , ").empty());
  CHECK_FALSE(HostList("").Holds("example.org"));
  CHECK(HostList("*").Holds("example.org"));
}

TEST_CASE("how far connections reach is said by three words, and never to metadata", "[fetch]") {
  const auto may = [](const char* text, Reach reach) {
    const sockaddr_storage address = Address(text);
    return MayConnect(reinterpret_cast<const sockaddr&>(address), reach);
  };
  for (const char* loopback : {"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}) {
    INFO(loopback);
    CHECK_FALSE(may(loopback, Reach::kPublic));
    CHECK(may(loopback, Reach::kPublicAndLoopback));
    CHECK(may(loopback, Reach::kAny));
  }
  for (const char* private_one :
       {"10.1.2.3", "192.168.1.1", "0.0.0.0", "fd00::1", "fe80::1", "::"}) {
    INFO(private_one);
    CHECK_FALSE(may(private_one, Reach::kPublicAndLoopback));
    CHECK(may(private_one, Reach::kAny));
  }
  for (const Reach reach : {Reach::kPublic, Reach::kPublicAndLoopback, Reach::kAny}) {
    CHECK(may("8.8.8.8", reach));
    CHECK_FALSE(may("169.254.169.254", reach));
  }
}

TEST_CASE("only public addresses may be connected", "[fetch]") {
  for (const char* denied : {"0.0.0.0",          "10.1.2.3",    "100.64.0.1",
                             "100.127.255.255",  "127.0.0.1",   "127.255.255.254",
                             "169.254.169.254",  "172.16.0.1",  "172.31.255.255",
                             "192.0.0.8",        "192.168.1.1", "198.18.0.1",
                             "198.19.255.255",   "224.0.0.1",   "240.0.0.1",
                             "255.255.255.255",  "::",          "::1",
                             "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
                             "2002:7f00:1::",    "2001::1",     "2001:db8::1",
                             "fe80::1",          "fd00::1",     "ff02::1",
                             "168.63.129.16",    "3fff::1",     "3fff:fff::1",
                             "2001:2::1",        "2001:10::1",  "2001:2f::1"}) {
    INFO(denied);
    CHECK_FALSE(IsPublic(denied));
  }
  for (const char* allowed :
       {"1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "198.17.0.1",
        "198.20.0.1", "223.255.255.255", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
        "2002:808:808::", "168.63.129.17", "3ffe::1", "2001:4860::1"}) {
    INFO(allowed);
    CHECK(IsPublic(allowed));
  }
}

TEST_CASE("a URL needs http or https, a host, and no user name", "[fetch]") {
  CHECK(CheckUrl("https://x.org/a b.png").code() == ErrorCode::kForbiddenUrl);
  CHECK(CheckUrl("https://x.org/a.png").ok());
  CHECK(CheckUrl("HTTP://x.org").ok());
  CHECK(CheckUrl("http://x.org/?a=b@c").ok());
  for (const char* bad : {"ftp://x.org", "file:///etc/passwd", "http://", "http:///x",
                          "http://user:pw@x.org/", "http://x.org/\n", "gopher://x"}) {
    INFO(bad);
    CHECK(CheckUrl(bad).code() == ErrorCode::kForbiddenUrl);
  }
}

}  // namespace
}  // namespace idefics
