# SPDX-License-Identifier: Apache-2.0
# What makes an error in memory hard to use. tests/server/test_hardening.py reads it from the binary;
# docs/security.md#the-binary says what each is for. Loops of kernels (predictor/ops) see numbers, no
# client's bytes, and are compiled without.
include(CheckPIESupported)
check_pie_supported(LANGUAGES CXX)
add_link_options(LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)

add_library(idefics_hardening INTERFACE)
target_compile_options(idefics_hardening INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-fstack-protector-strong -fstack-clash-protection>)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(idefics_hardening INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fcf-protection=full>)
endif()
# Needs an optimiser, and hides from sanitizers what they look for. Level 3 also knows sizes that are
# computed; older compilers have level 2.
set(fortify 2)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 12)
  set(fortify 3)
endif()
if(NOT IDEFICS_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_options(idefics_hardening INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=${fortify}>)
endif()
