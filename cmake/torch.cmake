# SPDX-License-Identifier: Apache-2.0
# libtorch 2.11.0 (the wheel; scripts/requirements.txt pins its hash, scripts/arm64 that for ARM): tensors, oneDNN, TorchScript.
# Only in predictor/ops, predictor/model, weights/module_loader and script_check. Imported by hand: find_package(Torch)
# drags nvcc into CPU builds and fails with CMake 3.25 when a CUDA toolkit is installed.
set(IDEFICS_TORCH_VERSION none)
set(IDEFICS_CUDA_VERSION none)
if(IDEFICS_TORCH)
  if(NOT IDEFICS_TORCH_DIR)
    set(pins ${PROJECT_SOURCE_DIR}/scripts)  # as scripts/environment.sh has them
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
      string(APPEND pins /arm64)
    endif()
    file(SHA256 ${pins}/requirements.txt requirements_hash)
    string(SUBSTRING ${requirements_hash} 0 12 requirements_key)
    file(GLOB IDEFICS_TORCH_DIR
      ${IDEFICS_CACHE}/python-${requirements_key}/lib/python3*/site-packages/torch)
  endif()
  if(NOT EXISTS ${IDEFICS_TORCH_DIR}/lib/libtorch_cpu.so)
    message(FATAL_ERROR "libtorch is not in '${IDEFICS_CACHE}': run scripts/setup.sh "
      "(or give -DIDEFICS_TORCH_DIR=…/site-packages/torch, or -DIDEFICS_TORCH=OFF)")
  endif()
  file(READ ${IDEFICS_TORCH_DIR}/version.py torch_versions)
  if(torch_versions MATCHES "__version__ = '([^']+)'")
    set(IDEFICS_TORCH_VERSION ${CMAKE_MATCH_1})
  endif()
  if(IDEFICS_CUDA AND torch_versions MATCHES "cuda[^=\n]* = '([^']+)'")
    set(IDEFICS_CUDA_VERSION ${CMAKE_MATCH_1})
  endif()
  add_library(deps_torch INTERFACE)
  add_library(deps::torch ALIAS deps_torch)
  target_include_directories(deps_torch SYSTEM INTERFACE
    ${IDEFICS_TORCH_DIR}/include ${IDEFICS_TORCH_DIR}/include/torch/csrc/api/include)
  target_link_directories(deps_torch INTERFACE ${IDEFICS_TORCH_DIR}/lib)
  # at::parallel_for is a template over OpenMP: compiled without the flag it runs on one thread. The runtime
  # is the wheel's own, so that there is one pool of threads.
  target_compile_options(deps_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  target_link_libraries(deps_torch INTERFACE
    torch_cpu c10 ${IDEFICS_TORCH_DIR}/lib/libgomp.so.1 Threads::Threads)
  if(IDEFICS_CUDA)
    # CUDA 13 has nothing below sm_75, where CMake 3.25 would start; PTX of the last for later chips.
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120)
    endif()
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
    set(CMAKE_CUDA_EXTENSIONS OFF)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know the flag of CUDA 13
      add_compile_options($<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
    endif()
    find_package(CUDAToolkit REQUIRED)
    add_library(deps_torch_cuda INTERFACE)
    add_library(deps::torch_cuda ALIAS deps_torch_cuda)
    # --no-as-needed: libtorch_cuda registers its kernels when loaded; no symbol of it is referenced.
    target_link_libraries(deps_torch_cuda INTERFACE
      deps::torch "-Wl,--no-as-needed" torch_cuda c10_cuda "-Wl,--as-needed" CUDA::cudart)
  endif()
endif()
