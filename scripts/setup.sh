#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building and running needs on Debian 12, Debian 13 or Ubuntu 24.04; does nothing
# where everything is there already. Give --tests to get what the tests need as well, --hub to get
# the client of the Hugging Face hub, --cluster to get Ray and pyarrow for scripts/cluster.sh, --cuda
# to get a CUDA compiler where there is none.
# System packages come from apt (as root or with sudo); all else goes to $COG_IDEFICS_CACHE, each
# thing under a name that holds its version, checked by sha256.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

PACKAGES=(g++ cmake ninja-build ccache pkg-config python3 python3-venv curl ca-certificates xz-utils
  libssl-dev libcurl4-openssl-dev nlohmann-json3-dev libspdlog-dev libcli11-dev libsentencepiece-dev
  libjpeg-dev libpng-dev libtiff-dev libgif-dev libwebp-dev libavif-dev zlib1g-dev)
TEST_PACKAGES=(clang-format shellcheck clang libclang-rt-dev)
# For scripts/arm64_test.sh.
[ "$(uname -m)" = aarch64 ] || TEST_PACKAGES+=(g++-aarch64-linux-gnu qemu-user)

HTTPLIB_SHA256=e9112546cbae828180f72c2ae6da4bfd8d15ae38138bd99b898e5e30128acc28  # of httplib.h
CATCH2_SHA256=c991b247a1a0d7bb9c39aa35faf0fe9e19764213f28ffba3109388e62ee0269c   # of the archive

LOG=
# step "what it does" SECONDS command… : says it and what it takes, runs it, says what it took.
step() {
  local what=$1 expected=$2 started=$SECONDS
  shift 2
  say "setup: $what (about $expected s)"
  LOG=$CACHE/log/$(date +%Y%m%dT%H%M%S)-$1.log
  "$@" >"$LOG" 2>&1 &
  local job=$!
  while [ -t 2 ] && kill -0 $job 2>/dev/null; do
    printf '\r       %d s ' $((SECONDS - started)) >&2
    sleep 1
  done
  [ ! -t 2 ] || printf '\r' >&2
  if ! wait $job; then
    tail -n 20 "$LOG" >&2
    die "$what failed; the whole output is in $LOG"
  fi
  say "       done in $((SECONDS - started)) s"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# ---- system packages ----
missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
    sed -n 's/^installed //p' | sort)
  printf '%s\n' "$@" | sort | comm -23 - <(printf '%s\n' "$installed") | xargs
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update
  # dpkg waits for the disk after every file unless told otherwise: three times slower.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io "$@"
}

setup_packages() {
  local names missing
  names=$(missing_packages "$@")  # not < <(…): there a dpkg-query that misses one ends it in silence
  read -ra missing <<<"$names"
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "this system has no apt-get; install these packages or their" \
    "like by hand: ${missing[*]}"
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "installing packages needs root, and sudo" \
    "is not here; run as root: apt-get install ${missing[*]}"
  step "installing packages: ${missing[*]}" $((15 + 3 * ${#missing[@]})) \
    install_packages "${missing[@]}"
}

# ---- Python packages, libtorch among them ----
# make_venv FOLDER REQUIREMENTS [BASE]: BASE is an environment whose packages are seen too.
make_venv() {
  local folder=$1 requirements=$2 base=${3:-}
  # Not rm -rf FOLDER/: a developer may have put a link there.
  rm -rf "$folder"
  "$(system_python)" -m venv "$folder"
  if [ -n "$base" ]; then
    ls -d "$base"/lib/python3*/site-packages >"$(echo "$folder"/lib/python3*/site-packages)/base.pth"
  fi
  pip_install "$folder/bin/python" -r "$requirements"
  touch "$folder/.complete"
}

# pip_install PYTHON ARGUMENT…
pip_install() {
  local python=$1
  shift
  # The system's certificates, so that a company's own authority counts.
  if [ -z "${PIP_CERT:-}" ] && [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    export PIP_CERT=/etc/ssl/certs/ca-certificates.crt
  fi
  "$python" -m pip install --disable-pip-version-check --no-cache-dir --no-compile \
    --require-hashes --no-deps --only-binary=:all: --progress-bar off "$@"
}

# nvcc and the headers and libraries of libtorch's own CUDA wheels, laid out as a toolkit.
install_cuda() {
  local partial=$CUDA_DIR.partial
  rm -rf "$CUDA_DIR" "$partial"
  pip_install "$PYTHON_ENV/bin/python" --target "$partial/wheels" \
    -r "$PINS/requirements-cuda.txt"
  mv "$partial"/wheels/nvidia/cu13/* "$partial/"
  rm -rf "$partial/wheels"
  cp -rsn "$(echo "$PYTHON_ENV"/lib/python3*/site-packages/nvidia/cu13)/." "$partial/"
  ln -s lib "$partial/lib64"
  ln -s libcudart.so.13 "$partial/lib/libcudart.so"
  mv "$partial" "$CUDA_DIR"
}

system_python() {
  if [ -x /usr/bin/python3 ]; then echo /usr/bin/python3; else command -v python3; fi
}

venv_ready() { [ -e "$1/.complete" ] && "$1/bin/python" -c '' 2>/dev/null; }

# ---- libraries that Debian 12 has too old ----
# debian_source NAME VERSION_GLOB: downloads an upstream archive from Debian's own source packages
# into the present folder, by the mirror that apt uses; fails on other systems.
debian_source() {
  local name=$1 version=$2 mirror private=$PWD/apt
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e $keyring ] || return 1
  mirror=$(apt-get indextargets --format '$(SITE)' | grep -m1 '/debian/*$') || return 1
  mkdir -p "$private"/{lists/partial,cache/archives/partial,parts}
  printf "deb-src [signed-by=$keyring] $mirror %s main\n" trixie trixie-backports sid \
    >"$private/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$private/sources.list" -o "Dir::Etc::sourceparts=$private/parts"
    -o "Dir::State::lists=$private/lists" -o "Dir::Cache=$private/cache" -o Dir::State::status=/dev/null
    -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  local exact
  exact=$(apt-cache "${options[@]}" showsrc "$name" | sed -n 's/^Version: //p' | grep -m1 "^$version") ||
    return 1
  apt-get "${options[@]}" source --download-only --tar-only "$name=$exact"
}

# upstream NAME URL: the second source.
upstream() { curl --fail --location --silent --show-error --retry 3 --output "$1" "$2"; }

in_scratch() {
  rm -rf "$CACHE/scratch"
  mkdir -p "$CACHE/scratch"
  cd "$CACHE/scratch"
}

install_httplib() {
  in_scratch
  debian_source cpp-httplib 0.41.0 || upstream cpp-httplib_0.41.0.orig.tar.gz \
    https://github.com/yhirose/cpp-httplib/archive/refs/tags/v0.41.0.tar.gz
  mkdir out
  tar -xf cpp-httplib_0.41.0*.orig.tar.* -C out --strip-components=1
  echo "$HTTPLIB_SHA256  out/httplib.h" | sha256sum --check
  mkdir header
  mv out/httplib.h out/LICENSE header/
  rm -rf "$HTTPLIB_DIR"
  mv header "$HTTPLIB_DIR"
  rm -rf "$CACHE/scratch"
}

install_catch2() {
  in_scratch
  debian_source catch2 3.7.1 || upstream catch2_3.7.1.orig.tar.gz \
    https://github.com/catchorg/Catch2/archive/refs/tags/v3.7.1.tar.gz
  echo "$CATCH2_SHA256  catch2_3.7.1.orig.tar.gz" | sha256sum --check
  mkdir source
  tar -xf catch2_3.7.1.orig.tar.gz -C source --strip-components=1
  cmake -S source -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_STANDARD=20 \
    -DBUILD_TESTING=OFF -DCATCH_INSTALL_DOCS=OFF -DCMAKE_UNITY_BUILD=ON \
    -DCMAKE_UNITY_BUILD_BATCH_SIZE=16 -DCMAKE_INSTALL_PREFIX="$CATCH2_DIR.partial"
  cmake --build build
  rm -rf "$CATCH2_DIR.partial"
  cmake --install build
  rm -rf "$CATCH2_DIR"
  mv "$CATCH2_DIR.partial" "$CATCH2_DIR"
  rm -rf "$CACHE/scratch"
}

# The playground's tests drive it. Where it is not to be had they say that they are skipped.
setup_browser() {
  command -v chromium >/dev/null && return 0
  [ "$(apt-cache policy chromium 2>/dev/null | sed -n 's/^ *Candidate: //p')" != '(none)' ] || return 0
  # Ubuntu's package of that name is a snap, which no test can drive.
  grep -q '^ID=debian' /etc/os-release || return 0
  setup_packages chromium
}

# nginx, haproxy and prometheus are unpacked, not installed: their packages start services.
fetch_tools() {
  local name
  in_scratch && apt-get download nginx haproxy prometheus || return 1
  for name in nginx haproxy prometheus; do
    dpkg-deb -x "${name}"_*.deb tools || return 1
  done
  # What a program misses stops here, not in a test.
  mkdir bin && mv tools/usr/sbin/{nginx,haproxy} tools/usr/bin/{prometheus,promtool} bin/ &&
    bin/nginx -v && bin/haproxy -v && bin/promtool --version && bin/prometheus --version &&
    rm -rf "$TOOLS_DIR" && mkdir "$TOOLS_DIR" && mv bin "$TOOLS_DIR/" && rm -rf "$CACHE/scratch"
}

# What tests/deploy and the rolling restart put before and beside a server. Where it is not to be had
# the tests say that they are skipped.
setup_tools() {
  [ ! -x "$TOOLS_DIR/bin/promtool" ] || return 0
  command -v apt-get >/dev/null || { say "setup: no apt-get: tests with nginx, haproxy and" \
    "prometheus will be skipped"; return 0; }
  local names libraries
  names=$(apt-cache depends --no-recommends --no-suggests nginx haproxy 2>/dev/null |
    sed -n 's/^  Depends: \(lib[a-z0-9.+-]*\)$/\1/p' | sort -u)
  read -rd '' -a libraries <<<"$names" || true
  # In a subshell: what dies there ends only this.
  (setup_packages "${libraries[@]}" &&
    step "unpacking nginx, haproxy and prometheus, which tests use" 10 fetch_tools) ||
    say "setup: the lines above say why: tests with nginx, haproxy and prometheus will be skipped"
}

# Where it is not to be had, the tests say that they are skipped.
setup_deploy() {
  venv_ready "$DEPLOY_ENV" && return
  # In a subshell: what dies there ends only this.
  (step "fetching checkov and Prometheus' parser, which tests ask (0.3 GB)" 20 \
    make_venv "$DEPLOY_ENV" "$PINS/requirements-deploy.txt") ||
    say "setup: the lines above say why: tests with checkov and exemplars will be skipped"
}

everything() {
  local packages=("${PACKAGES[@]}")
  [ "$with_tests" = no ] || packages+=("${TEST_PACKAGES[@]}")
  setup_packages "${packages[@]}"
  venv_ready "$PYTHON_ENV" || step "fetching libtorch 2.11 and the exporter's Python packages (2 GB)" 60 \
    make_venv "$PYTHON_ENV" "$PINS/requirements.txt"
  [ -e "$HTTPLIB_DIR/httplib.h" ] || step "fetching cpp-httplib 0.41.0" 10 install_httplib
  [ "$with_cuda" = no ] || [ -n "$(cuda_toolkit)" ] ||
    step "fetching the CUDA 13.0 compiler" 20 install_cuda
  [ "$with_hub" = no ] || venv_ready "$HUB_ENV" || step "fetching the Hugging Face hub's client" 10 \
    make_venv "$HUB_ENV" "$PINS/requirements-hub.txt" "$PYTHON_ENV"
  [ "$with_cluster" = no ] || venv_ready "$CLUSTER_ENV" ||
    step "fetching Ray and pyarrow, which scripts/cluster.sh runs (0.6 GB)" 25 \
      make_venv "$CLUSTER_ENV" "$PINS/requirements-cluster.txt"
  [ "$with_tests" = yes ] || return 0
  setup_browser
  setup_tools
  setup_deploy
  [ -e "$CATCH2_DIR/include" ] || step "fetching and compiling Catch2 3.7.1" 60 install_catch2
  venv_ready "$ORACLE_ENV" || step "fetching transformers, Pillow and cog, which the tests compare with" 20 \
    make_venv "$ORACLE_ENV" "$PINS/requirements-oracle.txt" "$PYTHON_ENV"
  venv_ready "$LINT_ENV" || step "fetching ruff and mypy, which check the Python code" 10 \
    make_venv "$LINT_ENV" "$PINS/requirements-lint.txt"
}

with_tests=no with_hub=no with_cluster=no with_cuda=no
for argument in "$@"; do
  case $argument in
    --tests) with_tests=yes with_hub=yes with_cluster=yes ;;
    --hub) with_hub=yes ;;
    --cluster) with_cluster=yes ;;
    --cuda) with_cuda=yes ;;
    *) die "unknown argument '$argument'; usage: scripts/setup.sh [--tests] [--hub] [--cluster] [--cuda]" ;;
  esac
done
mkdir -p "$CACHE/log"
exec 9>"$CACHE/lock"  # one set-up at a time
flock 9
everything
say "setup: everything is there ($SECONDS s)"
