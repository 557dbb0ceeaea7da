# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# Where everything is. Sourced by the other scripts, after `set -euo pipefail`; sets variables only.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Fetched and compiled dependencies, outside the checkout: a second checkout or branch shares them.
CACHE=${COG_IDEFICS_CACHE:-$HOME/.cache/cog-idefics}
export COG_IDEFICS_CACHE=$CACHE

# The first 12 hex digits of the sha256 of some files; cmake/deps.cmake computes the same key.
key_of() { cat "$@" | sha256sum | cut -c1-12; }

# Wheels are pinned for each kind of machine (scripts/pin_requirements.py).
PINS=$ROOT/scripts
[ "$(uname -m)" != aarch64 ] || PINS=$PINS/arm64
PYTHON_ENV=$CACHE/python-$(key_of "$PINS/requirements.txt")
ORACLE_ENV=$CACHE/oracle-$(key_of "$PINS/requirements.txt" "$PINS/requirements-oracle.txt")
LINT_ENV=$CACHE/lint-$(key_of "$PINS/requirements-lint.txt")
HUB_ENV=$CACHE/hub-$(key_of "$PINS/requirements.txt" "$PINS/requirements-hub.txt")
CLUSTER_ENV=$CACHE/cluster-$(key_of "$PINS/requirements-cluster.txt")
DEPLOY_ENV=$CACHE/deploy-$(key_of "$PINS/requirements-deploy.txt")
# A CUDA toolkit made of wheels, for machines that have none.
CUDA_DIR=$CACHE/cuda-$(key_of "$PINS/requirements.txt" "$PINS/requirements-cuda.txt")
HTTPLIB_DIR=$CACHE/httplib-0.41.0
CATCH2_DIR=$CACHE/catch2-3.7.1
# nginx, haproxy, prometheus and promtool, of this system's packages.
TOOLS_DIR=$CACHE/tools-$(. /etc/os-release && echo "$ID-${VERSION_ID:-}")

BUILD_DIR=$ROOT/build/${IDEFICS_PRESET:-release}
SERVER_BINARY=$BUILD_DIR/server/idefics-server
FAKE_SERVER_BINARY=$BUILD_DIR/scripts/fake_server/idefics-fake-server
OPS_LIBRARY=$BUILD_DIR/predictor/ops/libidefics_ops.so

# The folder of the CUDA toolkit to build with, or nothing.
cuda_toolkit() {
  local folder
  for folder in "${CUDA_HOME:-}" /usr/local/cuda "$CUDA_DIR"; do
    [ ! -x "$folder/bin/nvcc" ] || { echo "$folder" && return; }
  done
}

# Whether it is ORG/NAME or ORG/NAME@REVISION, and no file or folder here.
is_hub_name() { [ ! -e "$1" ] && [[ $1 =~ ^[[:alnum:]_][[:alnum:]_.-]*/[^/@]+(@.+)?$ ]]; }

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }
