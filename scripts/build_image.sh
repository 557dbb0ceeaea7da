#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/build_image.sh [cuda|cpu|export] [TAG]: builds the container image with every label that Cog's
# tools read; the schema label comes from the built server itself. `export`: the image that makes bundles.
# DOCKER names the engine's program, DOCKER_BUILD_FLAGS adds flags (such as --network host).
set -euo pipefail
. "$(dirname "$0")/environment.sh"
variant=${1:-cuda} tag=${2:-cog-idefics:${1:-cuda}}
docker=${DOCKER:-docker}
revision=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)
read -ra flags <<<"${DOCKER_BUILD_FLAGS:-}"
build=("$docker" build "${flags[@]}" --build-arg "REVISION=$revision" --tag "$tag")
if [ "$variant" = export ]; then
  build+=(--build-arg VARIANT=cpu --target export)
else
  build+=(--build-arg "VARIANT=$variant")
fi

say "image: building $tag (first time: about 8 minutes on 2 cores)"
"${build[@]}" "$ROOT"
if [ "$variant" != export ]; then
  schema=$("$docker" run --rm "$tag" idefics-server --print-openapi)
  # Everything is cached but the label.
  "${build[@]}" --label "run.cog.openapi_schema=$schema" "$ROOT" >/dev/null
fi
say "image: $tag is built, $("$docker" image inspect --format '{{.Size}}' "$tag" |
  awk '{printf "%.2f GB", $1 / 1e9}')"
