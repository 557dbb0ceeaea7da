#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# collect_runtime.sh cpu|cuda FOLDER: copies what the server needs of libtorch at run time to FOLDER,
# laid out as in the wheels, so that the libraries find each other ($ORIGIN/../../nvidia/…).
set -euo pipefail
. "$(dirname "$0")/../scripts/environment.sh"
variant=$1 folder=$2
packages=$(echo "$PYTHON_ENV"/lib/python3*/site-packages)
mkdir -p "$folder/torch/lib" "$folder/nvidia/cu13/lib"

cd "$packages"
cp -P torch/lib/libc10.so torch/lib/libtorch_cpu.so torch/lib/libgomp*.so* "$folder/torch/lib/"
if [ "$(uname -m)" = aarch64 ]; then  # there its products are those of other libraries
  cp -P torch/lib/lib{arm_compute,nvpl,gfortran}*.so* "$folder/torch/lib/"
fi
cp torch-*.dist-info/licenses/LICENSE "$folder/LICENSE" 2>/dev/null ||
  cp torch-*.dist-info/LICENSE "$folder/LICENSE"
case $variant in
  cpu)  # libtorch_cpu.so itself is linked with these two.
    cp -P nvidia/cu13/lib/libcudart.so.13 nvidia/cu13/lib/libcupti.so.13 "$folder/nvidia/cu13/lib/" ;;
  cuda)
    cp -P torch/lib/lib{c10_cuda,torch_cuda,torch_cuda_linalg,torch_nvshmem,caffe2_nvrtc}.so \
      "$folder/torch/lib/"
    find nvidia -name '*.so*' \( -type f -o -type l \) | tar -cf - -T - | tar -xf - -C "$folder" ;;
  *) die "VARIANT is '$variant'; use cuda or cpu" ;;
esac
du -sh "$folder"
