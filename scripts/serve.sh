#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/serve.sh [--model BUNDLE|ORG/NAME[@REV]] [--weights FORM] [--port N] [any flag of idefics-server
# serve]: set-up, build and export where they are needed, then the server in the foreground; Ctrl-C ends
# it. The model is the demo, a bundle folder, or a repository on the Hugging Face hub, which is exported once
# with --weights (int8; bf16 where there is a GPU).
set -euo pipefail
. "$(dirname "$0")/environment.sh"

model='' weights='' port=${PORT:-5000} flags=()
while [ $# -gt 0 ]; do
  case $1 in
    --model) model=${2:?--model needs a bundle folder or a name on the hub} && shift ;;
    --model=*) model=${1#*=} ;;
    --weights) weights=${2:?--weights needs a form} && shift ;;
    --weights=*) weights=${1#*=} ;;
    --port) port=${2:?--port needs a number} && shift ;;
    --port=*) port=${1#*=} ;;
    *) flags+=("$1") ;;
  esac
  shift
done

"$ROOT/scripts/setup.sh"
"$ROOT/scripts/build.sh" "${IDEFICS_PRESET:-release}" idefics-server
[ -n "$model" ] || { demo=yes && model=$("$ROOT/scripts/demo_bundle.sh"); }
if is_hub_name "$model"; then
  [ -n "$weights" ] || { [ -e /dev/nvidia0 ] && weights=bf16 || weights=int8; }
  bundle=$CACHE/bundle-$(tr /@ -- <<<"$model")-$weights
  [ -e "$bundle/bundle.json" ] || "$ROOT/scripts/export.sh" "$model" "$bundle" --weights "$weights"
  model=$bundle
fi

url=http://127.0.0.1:$port
if curl --silent --max-time 2 --output /dev/null "$url/health-check"; then
  die "port $port is in use; give --port another number"
fi

# Waits for READY beside the server (which takes this process over below), then shows what to try.
announce() {
  until curl --silent --max-time 2 "$url/health-check" | grep -q '"READY"'; do
    kill -0 $$ 2>/dev/null || exit 0
    sleep 0.1
  done
  say "
READY on $url after $SECONDS s (Ctrl-C ends it). Open

  $url/playground/

in a browser, or try, in another terminal:
"
  if [ "${demo:-no}" = yes ]; then
    local picture="data:image/jpeg;base64,'\"\$(base64 -w0 '$ROOT/tests/assets/several.jpg')\"'"
    printf '%s\n\n' "curl -s $url/predictions -H 'Content-Type: application/json' -d '{\"input\": {\"prompt\":\
 [\"User: What do you see?\", \"$picture\", \"<end_of_utterance>\", \"\\nAssistant:\"]}}' |\
 python3 -c 'import json, sys; print(json.load(sys.stdin)[\"output\"])'"
  else
    say "curl -s $url/"
  fi
}
announce &
export LOG_FORMAT=${LOG_FORMAT:-console}
exec "$ROOT/scripts/idefics-server" serve --model "$model" --port "$port" "${flags[@]}"
