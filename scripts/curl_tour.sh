#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/curl_tour.sh: a transcript of curl with the server's interface: starts the fake server, which
# obeys directives in the text, and a small webhook receiver; prints each command and its answer.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

scratch=$(mktemp -d)
server='' receiver=''
finish() {
  kill $server $receiver 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$scratch"
}
trap finish EXIT

# wait_for COMMAND…: repeats the command until it succeeds, 10 s at most.
wait_for() {
  local limit=$((SECONDS + 10))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $limit ] || die "in vain: $*"
    sleep 0.02
  done
}

# show COMMAND: prints it as one would type it, and its answer with the inputs left out.
show() {
  printf '\n$ %s\n' "$1"
  printf '%s\n' "$(bash -c "$1" | sed -E 's/"input":\{[^}]*\}/"input":{…}/')"
}

python3 -u - "$scratch/hooks" >"$scratch/receiver_port" <<'PYTHON' &
import http.server, sys

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open(sys.argv[1], "a") as hooks:
            print("POST", self.path, body, file=hooks)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1])
server.serve_forever()
PYTHON
receiver=$!
wait_for grep -q . "$scratch/receiver_port"
HOOK=http://127.0.0.1:$(cat "$scratch/receiver_port")
PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
URL=http://127.0.0.1:$PORT JSON='Content-Type: application/json'
export HOOK URL JSON

"$ROOT/scripts/fake-server" --host 127.0.0.1 --port "$PORT" --max-concurrency 1 \
  --webhook-hosts any 2>"$scratch/log" &
server=$!
wait_for curl -sf "$URL/health-check"
cd "$scratch"
echo "\$ URL=$URL HOOK=$HOOK JSON='$JSON'"

printf '\n# Synchronous'
show 'curl -s $URL/predictions -H "$JSON" -d '\''{"input": {"prompt": ["[log=hi][metric=tokens:3]A cat."]}}'\'

printf '\n# Asynchronous, with a webhook'
show 'curl -s $URL/predictions -H "$JSON" -H "Prefer: respond-async" \
    -d '\''{"id": "a1", "webhook": "'\''$HOOK'\''/a1", "input": {"prompt": ["[chunks=2][delay=0.1]A cat."]}}'\'
wait_for grep -q succeeded "$scratch/hooks"
show 'cat hooks'

printf '\n# Server-sent events'
show 'curl -sN $URL/predictions -H "$JSON" -H "Accept: text/event-stream" \
    -d '\''{"input": {"prompt": ["[chunks=2][delay=0.1]A cat."]}}'\'

printf '\n# PUT twice with one id: it runs once'
put='curl -s -w " %{http_code}" -X PUT $URL/predictions/p1 -H "$JSON" \
    -H "Prefer: respond-async" -d '\''{"input": {"prompt": ["[sleep=20]x"]}}'\'
show "$put"
show "$put"
show 'curl -s $URL/health-check'

printf '\n# Cancel'
show 'curl -s -w " %{http_code}" -X POST $URL/predictions/p1/cancel'
wait_for sh -c 'curl -s $URL/predictions/p1 | grep -q canceled'
show 'curl -s $URL/predictions/p1'
show 'curl -s -w " %{http_code}" -X POST $URL/predictions/p1/cancel'
