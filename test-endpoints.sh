#!/usr/bin/env bash
# test-endpoints.sh [URL]: asks every endpoint of a running gateway and says pass or fail. URL: http://localhost:5000.
# ADMIN_TOKEN, from the environment or .env here, is for the control plane's POST. It names a service that does not exist:
# access is checked before that, and nothing is changed.
#
# The /proxy/ part expects the stub upstream; where another one answers (or with STUB=no) it is left out, and says so.
# It sends one failing request between good ones and no more than a few dozen in all: no limit is exhausted, no breaker trips.
# Exit status: 0 all passed, 1 something failed.

set -euo pipefail

url=${1:-http://localhost:5000}
url=${url%/}
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

command -v curl >/dev/null || {
  echo "error: curl is not installed" >&2
  exit 1
}

verdict() {
  if [[ $1 == pass ]]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  printf '%-5s %-40s %s\n' "$1" "$2" "$3"
}

# ask STATUS PATTERN NAME TARGET [CURL ARGUMENT]...: the status, and an extended regular expression in head or body.
ask() {
  local want=$1 pattern=$2 name=$3 target=$4 got
  shift 4
  got=$(curl -sS --path-as-is -m 10 -D "$work/head" -o "$work/body" -w '%{http_code} %{time_total}' "$@" "$url$target" 2>"$work/error") || true
  cat "$work/head" "$work/body" >"$work/answer" 2>/dev/null || true
  if [[ ! ${got%% *} =~ ^$want$ ]]; then
    verdict FAIL "$name" "status ${got%% *}, expected $want $(head -n 1 "$work/error")"
  elif [[ -n $pattern ]] && ! grep -Eaq -- "$pattern" "$work/answer"; then
    verdict FAIL "$name" "$want, but nothing matches: $pattern"
  else
    verdict pass "$name" "${got%% *} in ${got##* } s"
  fi
  : >"$work/body"
}

ask 200 '"status": ?"(healthy|degraded)"' "health" /health
ask 200 alive "livez" /livez
ask 200 ready "readyz" /readyz
ask 200 '^http_requests_total' "metrics" /metrics
ask 200 '"state": ?"(closed|half_open)"' "circuits" /status/breakers
ask 200 '"openapi": ?"3' "OpenAPI document" /api/openapi.json
ask 200 '<html' "page of the API" /api/docs
service=$(curl -sS -m 5 "$url/status/breakers" 2>/dev/null | sed -n 's/^{"\([^"]*\)".*/\1/p')
service=${service:-default}
for path in health circuit-breakers "circuit-breakers/$service" metrics "metrics/$service" \
  "metrics/$service/error-rate?windowMinutes=5" 'errors/recent?count=5' 'alerts?state=all' 'explain?method=GET&path=/proxy/ok'; do
  ask 200 'application/json' "resilience ${path%%\?*}" "/api/resilience/$path"
done
ask 404 '"reason"' "resilience, no such service" /api/resilience/circuit-breakers/no-such-service
token=${ADMIN_TOKEN:-}
if [[ -z $token && -r .env ]]; then token=$(sed -n 's/^ADMIN_TOKEN=//p' .env | tail -n 1); fi
nobody=/api/resilience/circuit-breakers/no-such-service
ask '40[13]' '"reason"' "POST without the token" "$nobody/release" -X POST -H 'Origin: http://elsewhere.example'
if [[ -n $token ]]; then
  printf 'header = "Authorization: Bearer %s"\n' "$token" >"$work/token"
  ask 404 '"reason": ?"unknown_service"' "POST with the token" "$nobody/release" -X POST --config "$work/token"
else
  echo "      POST: left out, there is no ADMIN_TOKEN"
fi
ask 404 '"reason": ?"not_found"' "no such route" /no-such-route
ask 404 'application/problem\+json' "control plane, no such path" /status/no-such-path

stub=${STUB:-}
if [[ -z $stub ]]; then
  if curl -fsS -m 5 "$url/proxy/stats" 2>/dev/null | grep -q '{'; then stub=yes; else stub=no; fi
fi
if [[ $stub != yes ]]; then
  echo "      /proxy/: left out, the upstream is not the stub"
else
  ask 200 '^RateLimit: ' "proxy" /proxy/ok
  ask 200 '^X-Request-ID: test-endpoints-1' "request id is kept" /proxy/ok -H 'X-Request-ID: test-endpoints-1'
  ask 200 '' "HEAD" /proxy/ok --head
  ask 500 'always fails' "upstream error passes through" /proxy/fail
  ask 200 '' "proxy again" /proxy/ok
  ask 200 '"slept"' "slow upstream" '/proxy/slow?seconds=0.3'
  ask 200 '"target": ?"/echo/a%2Fb\?x=1"' "target is not rewritten" '/proxy/echo/a%2Fb?x=1'
  head -c 1048576 /dev/zero >"$work/upload"
  ask 200 1048576 "POST of 1 MiB" /proxy/echo --data-binary "@$work/upload"
  for method in PUT PATCH DELETE OPTIONS; do
    ask 200 "\"method\": ?\"$method\"" "$method" /proxy/echo -X "$method"
  done
  ask 200 'ransfer-[Ee]ncoding: chunked' "chunked stream" '/proxy/stream?chunks=5'
  ask 200 'data: \{"tick": 2\}' "server-sent events" '/proxy/sse?events=3&delay=0.1'
  ask 418 '' "status passes through" /proxy/status/418
  ask 404 '' "upstream's own 404" /proxy/no-such-page
  ask 101 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=' "WebSocket" /proxy/ws --http1.1 -m 2 \
    -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='
fi

printf '\n%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
