# SPDX-License-Identifier: Apache-2.0
# Build options, one sentence each.
option(IDEFICS_TORCH "Build the model runtime on libtorch; OFF builds everything that does not need it" ON)
option(IDEFICS_CUDA "Build the CUDA operators; needs nvcc" OFF)
option(IDEFICS_TESTS "Build the C++ tests" ON)
option(IDEFICS_FUZZ "Build the libFuzzer targets; needs clang" OFF)
set(IDEFICS_SANITIZE "" CACHE STRING "Sanitizer of our own code: address (with undefined), thread, or empty")
set(IDEFICS_CACHE "$ENV{COG_IDEFICS_CACHE}" CACHE PATH "Folder of fetched dependencies, filled by scripts/setup.sh")
if(NOT IDEFICS_CACHE)
  set(IDEFICS_CACHE "$ENV{HOME}/.cache/cog-idefics" CACHE PATH "" FORCE)
endif()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(GNUInstallDirs)  # where it is installed
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# Where built programs find the model runtime, which they load and do not link. Installed ones have none.
set(CMAKE_BUILD_RPATH ${PROJECT_BINARY_DIR}/predictor/model)
find_program(IDEFICS_CCACHE ccache)
if(IDEFICS_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${IDEFICS_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${IDEFICS_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${IDEFICS_CCACHE})
endif()
