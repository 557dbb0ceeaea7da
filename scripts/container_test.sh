#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Proves the container and the front door: builds the image, starts it, asks it about a picture, stops
# it by SIGTERM, then runs the README's two commands in a bare Debian 12 container with this checkout
# copied in. Says what it does and how long each part took.
#   scripts/container_test.sh [--variant cpu|cuda] [--only image|door] [--no-tests]
# Uses a running Docker engine or starts one (Debian's docker.io, as root) and ends it afterwards; says
# so and ends with status 77 where none can run. Where no registry is reachable the base image is made
# by mmdebstrap. Certificates in /usr/local/share/ca-certificates go along.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

variant=cpu only=all tests=yes
while [ $# -gt 0 ]; do
  case $1 in
    --variant) variant=${2:?--variant needs cpu or cuda} && shift ;;
    --only) only=${2:?--only needs image or door} && shift ;;
    --no-tests) tests=no ;;
    *) die "unknown argument '$1'; see the first lines of this script" ;;
  esac
  shift
done

BASE=$(sed -n 's/^ARG BASE=//p' "$ROOT/Dockerfile")
IMAGE=cog-idefics:test-$variant
scratch=$(mktemp -d)
started_engine=''
docker=docker
# Debian's program has BuildKit built in; another one on the path may lack it.
[ ! -x /usr/bin/docker ] || docker=/usr/bin/docker
export DOCKER=$docker DOCKER_BUILDKIT=1

skip() { say "container_test: skipped: $*" && exit 77; }
passed() { say "ok: $* ($((SECONDS - part)) s)" && part=$SECONDS; }
part=$SECONDS

finish() {
  "$docker" rm -f idefics-test-image idefics-test-door >/dev/null 2>&1 || true
  [ -z "$started_engine" ] || { kill "$started_engine" && wait "$started_engine"; } 2>/dev/null || true
  rm -rf "$scratch"
}
trap finish EXIT

start_engine() {
  "$docker" info >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || skip "no container engine answers, and starting one needs root"
  command -v dockerd >/dev/null || skip "no container engine is here (Debian's is docker.io)"
  mkdir -p "$CACHE/docker"
  dockerd --data-root "$CACHE/docker/data" --exec-root "$scratch/exec" --pidfile "$scratch/pid" \
    -H unix://"$scratch/sock" >"$CACHE/log/dockerd.log" 2>&1 &
  started_engine=$!
  export DOCKER_HOST=unix://$scratch/sock
  for _ in $(seq 100); do
    "$docker" info >/dev/null 2>&1 && return
    kill -0 "$started_engine" 2>/dev/null || break
    sleep 0.2
  done
  skip "dockerd does not start here; see $CACHE/log/dockerd.log"
}

# The one that the Dockerfile names, or one of our own in its place.
base_image() {
  "$docker" image inspect "$BASE" >/dev/null 2>&1 && return
  local own=debian:bookworm-slim
  if ! "$docker" image inspect $own >/dev/null 2>&1; then
    timeout 120 "$docker" pull --quiet "$BASE" >/dev/null 2>&1 && return
    make_base_image $own
  fi
  BASE=$own
  export DOCKER_BUILD_FLAGS="${DOCKER_BUILD_FLAGS:-} --build-arg BASE=$own"
}

make_base_image() {
  command -v mmdebstrap >/dev/null || skip "no registry is reachable, and mmdebstrap is not installed"
  mmdebstrap --variant=minbase --include=ca-certificates --quiet bookworm "$scratch/base.tar"
  "$docker" import "$scratch/base.tar" "$1" >/dev/null
}

copy_checkout() {
  mkdir -p "$1"
  tar -C "$ROOT" --exclude=./build --exclude=./.git --exclude=__pycache__ -cf - . | tar -C "$1" -xf -
}

# wait_for SECONDS COMMAND…: repeats the command until it succeeds.
wait_for() {
  local limit=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $limit ] || return 1
    sleep 0.3
  done
}

ready() { curl --silent --max-time 2 "http://127.0.0.1:$1/health-check" | grep -q '"READY"'; }

ready_or_ended() {
  ready "$1" ||
    [ "$("$docker" inspect --format '{{.State.Running}}' idefics-test-image)" = false ]
}

# start_image FLAG…: a container of the image, READY, at the free port $port.
start_image() {
  "$docker" rm -f idefics-test-image >/dev/null 2>&1 || true
  "$docker" run --detach --name idefics-test-image -p 127.0.0.1::5000 "$@" "$IMAGE" >/dev/null
  port=$("$docker" port idefics-test-image 5000)
  port=${port##*:}
  wait_for 120 ready_or_ended "$port"
  ready "$port" || die "the container is not READY:
$("$docker" logs idefics-test-image 2>&1 | tail -n 20)"
}

# Asks about the picture; the answer is in $scratch/answer.json.
answers() {
  question | curl --silent --fail -H 'Content-Type: application/json' --data-binary @- \
    --output "$scratch/answer.json" "http://127.0.0.1:$port/predictions" || true
  grep -q '"succeeded"' "$scratch/answer.json" ||
    die "the prediction failed: $(cat "$scratch/answer.json")"
}

healthy() {
  [ "$("$docker" inspect --format '{{.State.Health.Status}}' idefics-test-image)" = healthy ]
}

# The chart's pods, with the kubelet played by tests. The images need no Python of ours; the tests have the oracles'.
test_rendered_pods() {
  if [ ! -e "$ORACLE_ENV/.complete" ]; then
    say "skipped: the rendered pods, whose tests need scripts/setup.sh --tests" && return
  fi
  "$scratch/context/scripts/build_image.sh" export cog-idefics:test-export
  passed "the image that makes bundles builds"
  IDEFICS_IMAGE=$IMAGE IDEFICS_EXPORT_IMAGE=cog-idefics:test-export \
    IDEFICS_FAKE_SERVER=$ROOT/scripts/fake-server IDEFICS_SERVER=$ROOT/scripts/idefics-server \
    PYTHONPATH="$ROOT/scripts:$ROOT/tests/timing" "$ORACLE_ENV/bin/python" -m pytest -q -p no:cacheprovider \
    "$ROOT/tests/deploy/test_rendered_pod.py" "$ROOT/tests/deploy/test_export_job.py"
  passed "the chart's pods export, start, answer and leave as the kubelet asks"
}

# As an operator who trusts nobody runs it: no user of the image, nothing to write, no capability.
test_image_without_rights() {
  start_image --user 12345:12345 --read-only --cap-drop ALL --security-opt no-new-privileges
  answers
  ! "$docker" exec idefics-test-image touch /src/x /tmp/x 2>/dev/null ||
    die "the container can write to its root"
  passed "it answers as any user, with a read-only root and no capability"
  wait_for 60 healthy || die "its health check does not pass: $("$docker" inspect --format \
    '{{json .State.Health}}' idefics-test-image)"
  passed "its health check passes"
}

test_image_parts() {
  local name path=/usr/local/share/doc/cog-idefics
  for name in sbom.cdx.json vex.openvex.json; do
    "$docker" exec idefics-test-image cat $path/$name | python3 -c 'import json, sys; json.load(sys.stdin)'
  done
  "$docker" exec idefics-test-image cat $path/sbom.cdx.json | grep -q '"cpp-httplib"' ||
    die "the list of parts lacks what is compiled in"
  for name in bin/idefics-server lib/cog-idefics/libidefics_torch_runner.so lib/cog-idefics/libidefics_ops.so; do
    "$docker" cp "idefics-test-image:/usr/local/$name" "$scratch/part" >/dev/null
    ! readelf -d "$scratch/part" | grep -E 'RPATH|RUNPATH' || die "$name names folders"
  done
  passed "its list of parts is there, and no library names a folder"
}

question() {
  printf '{"input": {"prompt": ["User: What do you see?", "data:image/jpeg;base64,%s", %s]}}' \
    "$(base64 -w0 "$ROOT/tests/assets/several.jpg")" '"<end_of_utterance>", "\nAssistant:"'
}

test_image() {
  local status port
  copy_checkout "$scratch/context"
  cp /usr/local/share/ca-certificates/*.crt "$scratch/context/docker/ca-certificates/" 2>/dev/null || true
  "$scratch/context/scripts/build_image.sh" "$variant" "$IMAGE"
  passed "the image builds"

  start_image
  passed "the container is READY"
  answers
  passed "it answers: $(python3 -c 'import json, sys; print(json.load(sys.stdin)["output"])' \
    <"$scratch/answer.json")"

  local name
  for name in config openapi_schema version; do
    "$docker" image inspect --format "{{index .Config.Labels \"run.cog.$name\"}}" "$IMAGE" |
      grep -q . || die "the label run.cog.$name is missing"
  done
  "$docker" image inspect --format '{{index .Config.Labels "run.cog.openapi_schema"}}' "$IMAGE" |
    python3 -c 'import json, sys; assert json.load(sys.stdin)["openapi"] == "3.0.2"'
  "$docker" exec idefics-test-image python -m pip freeze
  "$docker" exec idefics-test-image pip install anything
  "$docker" exec idefics-test-image python -m cog.server.http --version
  ! "$docker" exec idefics-test-image sh -c 'command -v g++ || command -v gcc || command -v cc' ||
    die "the image has a compiler"
  passed "labels and the python and pip stand-ins are right, no compiler is in it"
  test_image_parts

  "$docker" stop --time 20 idefics-test-image >/dev/null
  status=$("$docker" inspect --format '{{.State.ExitCode}}' idefics-test-image)
  [ "$status" = 0 ] || die "SIGTERM ended the container with status $status, not 0"
  passed "SIGTERM ends it with status 0"
  test_image_without_rights
  test_rendered_pods
}

in_door() { "$docker" exec -e HOME=/root idefics-test-door bash -c "$1"; }

# serve_once NAME SECONDS: runs serve.sh in the bare container, executes the line that it prints, and
# ends it by SIGINT as Ctrl-C does.
serve_once() {
  local name=$1 limit=$2
  "$docker" exec -d -e HOME=/root idefics-test-door bash -c \
    "cd /cog-idefics && exec scripts/serve.sh >/$name.log 2>&1"
  wait_for "$limit" in_door "grep -q ^READY /$name.log" ||
    die "serve.sh is not READY after $limit s: $(in_door "tail -n 20 /$name.log")"
  passed "serve.sh is READY ($name; $(in_door "grep ^READY /$name.log"))"
  in_door "sleep 0.5; grep -m1 ^curl /$name.log >/line.sh && bash /line.sh | tee /answer" |
    grep -q . || die "the printed curl line failed: $(in_door 'cat /answer')"
  passed "the line that it printed works: $(in_door 'cat /answer')"
  in_door "kill -INT \$(pidof idefics-server)"
  wait_for 20 in_door "! pidof idefics-server" || die "serve.sh goes on after SIGINT"
  passed "SIGINT ends it"
}

test_door() {
  copy_checkout "$scratch/door"
  "$docker" rm -f idefics-test-door >/dev/null 2>&1 || true
  "$docker" run --detach --name idefics-test-door "$BASE" sleep infinity >/dev/null
  "$docker" cp "$scratch/door" idefics-test-door:/cog-idefics
  if [ -d /usr/local/share/ca-certificates ]; then
    "$docker" cp /usr/local/share/ca-certificates/. idefics-test-door:/usr/local/share/ca-certificates/
    in_door 'update-ca-certificates >/dev/null 2>&1 || true'
  fi
  passed "a bare $BASE container has the checkout"
  serve_once first 1800
  serve_once second 20
  [ "$tests" = yes ] || return 0
  in_door 'cd /cog-idefics && scripts/test.sh >/test.log 2>&1' ||
    die "test.sh failed: $(in_door "grep -E '^(FAILED|ERROR|E  )' /test.log; tail -n 20 /test.log")"
  passed "test.sh: $(in_door 'tail -n 1 /test.log')"
}

start_engine
base_image
passed "an engine runs and has $BASE"
[ "$only" = door ] || test_image
[ "$only" = image ] || test_door
say "container_test: everything passed in $SECONDS s"
