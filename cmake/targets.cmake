# SPDX-License-Identifier: Apache-2.0
# One helper per kind of target. Sources are listed by name, never by GLOB.

add_library(idefics_flags INTERFACE)  # warnings and sanitizers, for our own code only
target_compile_options(idefics_flags INTERFACE
  # -Wrestrict: GCC 12 sees overlaps in std::string operator+ that are not there (GCC bug 105651).
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wthread-safety>)  # common/thread_annotations.h
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # There c10::Half is made of ARM's own type, and GCC warns wherever a float becomes one.
  target_compile_options(idefics_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-float-conversion>)
endif()
if(IDEFICS_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
elseif(IDEFICS_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(IDEFICS_SANITIZE)
  message(FATAL_ERROR "IDEFICS_SANITIZE is '${IDEFICS_SANITIZE}': use address, thread or nothing")
endif()
if(IDEFICS_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # coverage of the libraries, for libFuzzer
endif()

# idefics_library(idefics_engine SOURCES a.cc PUBLIC idefics_text PRIVATE ...)
function(idefics_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${arg_PUBLIC}
    PRIVATE idefics_flags idefics_hardening ${arg_PRIVATE})
endfunction()

# idefics_test(scheduler_test LABEL unit TIMEOUT_S 30 LIBS idefics_engine [SOURCES x.cc])
# Tests run in the source folder.
function(idefics_test name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT_S" "LIBS;SOURCES" ${ARGN})
  add_executable(${name} ${name}.cc ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBS} idefics_flags Catch2::Catch2WithMain)
  target_compile_definitions(${name} PRIVATE IDEFICS_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  # It hangs, then: a machine that others use may be ten times as slow.
  math(EXPR timeout_s "10 * ${arg_TIMEOUT_S}")
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABEL}" TIMEOUT "${timeout_s}")
endfunction()
