// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/image_reference.h"

#include <catch2/catch_test_macros.hpp>
#include <string>

namespace idefics {
namespace {

TEST_CASE("a scheme and a host make a URL", "[url]") {
  for (const char* text :
       {"https://example.com/a.jpg", "HTTP://x", "User://x", "ftp://host/file", "a+b-c.1://h",
        "\thttp://x", "ht\ntp:/\r/x\t/y", "\x01http://x", "http://[::1]:80/a",
        "http://[fe80::1%eth0]/", "http://[v1.x]/", "http://é/", "http://:80", "http://@",
        "https://x?q=[", "http://x/[", "http://x\u3000y", "http://x\xFF"}) {
    CAPTURE(text);
    const auto looks = LooksLikeUrl(text);
    REQUIRE(looks.ok());
    CHECK(*looks);
  }
}

TEST_CASE("a space, no scheme or no host make a text", "[url]") {
  for (const char* text :
       {"", "hello", "https://example.com/a b.jpg", "See:http://x", "see http://x", "http:///path",
        "http://", "http://?q", "http://#f", "//host/path", "1http://x", "é://x", "http:/x", "://x",
        "a_b://x", "data:image/png;base64,AAAA", "\n", "a\u00E9://x"}) {
    CAPTURE(text);
    const auto looks = LooksLikeUrl(text);
    REQUIRE(looks.ok());
    CHECK_FALSE(*looks);
  }
}

TEST_CASE("hosts that Python's urlparse refuses are an input error", "[url]") {
  for (const char* text : {"http://[",
                           "http://]",
                           "http://[]",
                           "http://[x]/",
                           "http://[1.2.3.4]/",
                           "http://[::1",
                           "http://a]b[c/",
                           "http://[::1%]/",
                           "http://[::1%a%b]/",
                           "http://[v.x]/",
                           "http://[v1]/",
                           "http://[v1.]/",
                           "http://[vg.x]/",
                           "http://[1:2:3:4:5:6:7:8::]/",
                           "//[x",
                           "x://ex\u2100mple",
                           "http://a\uFF0Fb",
                           "http://a\uFF03",
                           "http://\u2A74",
                           "http://x\uFF20y/z"}) {
    CAPTURE(text);
    const auto looks = LooksLikeUrl(text);
    REQUIRE_FALSE(looks.ok());
    CHECK(looks.status().code() == ErrorCode::kInvalidInput);
    CHECK(looks.status().message().find("looks like a URL whose host '") != std::string::npos);
  }
  CHECK(LooksLikeUrl("http://x/\uFF0F").ok());  // after the host
  CHECK(LooksLikeUrl("http://[ ").ok());        // a space makes it a text first
  CHECK(LooksLikeUrl(std::string("http://[::1\0]/", 14)).ok() == false);
}

TEST_CASE("a refused host is quoted up to 100 bytes of whole characters", "[url]") {
  std::string host = "[x";
  for (int i = 0; i < 200; ++i) host += "é";
  const std::string message = LooksLikeUrl("http://" + host).status().message();
  CHECK(message.find("'[x" + host.substr(2, 98) + "…'") != std::string::npos);
}

TEST_CASE("a data URI has an image or base64 header", "[url]") {
  for (const char* text :
       {"data:image/png;base64,AAAA", "DATA:Image/JPEG;BASE64,/9j/", "data:;base64,AA",
        "data:image/svg+xml,%3Csvg%3E", "data:application/octet-stream;base64,",
        "data:image/png;base64,AA AA", "data:text/plain;base64,SGk="}) {
    CAPTURE(text);
    CHECK(LooksLikeDataUri(text));
  }
  for (const char* text : {"", "data", "data:", "data:,hello", "data: 1, 2, 3", "data:1,2,3",
                           "data:image/png;base64", "data:image/png ;base64,AA", " data:;base64,AA",
                           "data:a\nb;base64,AA", "https://data:image/png,"}) {
    CAPTURE(text);
    CHECK_FALSE(LooksLikeDataUri(text));
  }
  CHECK(LooksLikeDataUri("data:image/" + std::string(994, 'x') + ",A"));
  CHECK_FALSE(LooksLikeDataUri("data:image/" + std::string(995, 'x') + ",A"));
}

}  // namespace
}  // namespace idefics
