# SPDX-License-Identifier: Apache-2.0
# Every outside library: version, reason, and the only place that may include it. System packages
# come from Debian (scripts/setup.sh installs them); the rest from IDEFICS_CACHE, which setup.sh fills
# and checks by hash. Nothing is downloaded by CMake.
find_package(Threads REQUIRED)

include(torch)  # libtorch and CUDA, apart: tests/gpu needs nothing else

# OpenSSL (Debian): SHA-256 in common/sha256; TLS below libcurl.
find_package(OpenSSL REQUIRED)

# libcurl 7.88 (Debian): image downloads and webhooks. Only in server/fetch.
find_package(CURL REQUIRED)

# spdlog 1.10 (Debian): log lines. Only in common/log.cc.
find_package(spdlog REQUIRED)
add_library(deps_spdlog INTERFACE)
add_library(deps::spdlog ALIAS deps_spdlog)
target_link_libraries(deps_spdlog INTERFACE spdlog::spdlog)

# nlohmann_json 3.11 (Debian): JSON. Only in server, weights/manifest.cc and weights/safetensors.cc.
find_package(nlohmann_json 3.11 REQUIRED)

# CLI11 2.1 (Debian): the command line. Only in server/cli/command_line.cc.
find_path(CLI11_INCLUDE_DIR CLI/CLI.hpp REQUIRED)
add_library(deps_cli11 INTERFACE)
add_library(deps::cli11 ALIAS deps_cli11)
target_include_directories(deps_cli11 SYSTEM INTERFACE ${CLI11_INCLUDE_DIR})

# sentencepiece 0.1.97 (Debian): the tokenizer model. Only in predictor/text/sentencepiece_model.cc.
find_package(PkgConfig REQUIRED)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)

# libjpeg-turbo 2.1, libpng 1.6 with zlib, libtiff 4.5, giflib 5.2, libwebp 1.2, libavif 0.11 (Debian):
# the codecs that Pillow itself stands on, for equal pixels. Not OpenCV, whose pixels differ
# (predictor/images/README.md). Only in predictor/images; zlib also in
# server/playground/embed.cc, a program of the build that compresses the playground's files.
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(TIFF 4.5 REQUIRED)
find_package(GIF REQUIRED)
pkg_check_modules(webp REQUIRED IMPORTED_TARGET libwebp libwebpdemux)
pkg_check_modules(avif REQUIRED IMPORTED_TARGET libavif)

# cpp-httplib 0.41.0 (fetched by setup.sh, header only): HTTP. Only in server/http/response_writer.cc.
# Debian 12's 0.11.4 is exploitable; a compiled shared library would bake in its limits.
find_path(HTTPLIB_INCLUDE_DIR httplib.h PATHS ${IDEFICS_CACHE}/httplib-0.41.0 NO_DEFAULT_PATH REQUIRED)
add_library(deps_httplib INTERFACE)
add_library(deps::httplib ALIAS deps_httplib)
target_include_directories(deps_httplib SYSTEM INTERFACE ${HTTPLIB_INCLUDE_DIR})
target_link_libraries(deps_httplib INTERFACE Threads::Threads)

# Catch2 3.7.1 (fetched and compiled by setup.sh): C++ tests. Only in tests.
if(IDEFICS_TESTS)
  find_package(Catch2 3.7.1 REQUIRED PATHS ${IDEFICS_CACHE}/catch2-3.7.1 NO_DEFAULT_PATH)
endif()
