#!/usr/bin/env bash
# test-endpoints.sh [URL]: asks every endpoint of a running gateway and says pass or fail. URL: http://localhost:5000.
# ADMIN_TOKEN, from the environment or .env here, is for the control plane's POST. It names a service that does not exist:
# access is checked before that, and nothing is changed.
#
# The /proxy/ part expects the stub upstream; where another one answers (or with STUB=no) it is left out, and says so. Where
# the gateway refuses (an open circuit, no upstream), that is one failure, with the gateway's reason. It sends one failing
# request between good ones and no more than a few dozen in all: no breaker trips, and after a 429 it waits as it is told.
#
# Where a proxy in front keeps the control plane to itself (403 of nginx: docker-compose.scale.yml, nginx.conf), that part is
# left out, and says how to ask a gateway itself.
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
  for _ in 1 2 3; do
    got=$(curl -sS --path-as-is -m 10 -D "$work/head" -o "$work/body" -w '%{http_code} %{time_total}' "$@" "$url$target" 2>"$work/error") || true
    if [[ ${got%% *} != 429 ]]; then break; fi
    pause=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]*\).*/\1/p' "$work/head")
    sleep "$((${pause:-1} < 10 ? ${pause:-1} : 10))"
  done
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
if [[ $(curl -sS -m 10 -o "$work/body" -w '%{http_code}' "$url/status/breakers" 2>/dev/null) == 403 ]] && ! grep -q '"reason"' "$work/body"; then
  control=no
  echo "      control plane: left out, a proxy in front of the gateway refuses it (403). Ask a gateway itself, on its host:"
  echo "      ./test-endpoints.sh http://\$(docker-compose port proxy-service 5000)"
else
  control=yes
fi
if [[ $control == yes ]]; then
  ask 200 '^http_requests_total' "metrics" /metrics
  ask 200 '"state": ?"(closed|open|half_open)"' "circuits" /status/breakers
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
  ask 404 'application/problem\+json' "control plane, no such path" /status/no-such-path
fi
ask 404 '"reason": ?"not_found"' "no such route" /no-such-route

stub=${STUB:-}
refusal=
if [[ -z $stub ]]; then
  stub=no
  for _ in 1 2 3; do
    curl -sS -m 60 "$url/proxy/stats" >"$work/body" 2>/dev/null || true
    refusal=$(sed -n 's/.*"type": *"urn:problem:gateway:\([a-z_]*\)".*/\1/p' "$work/body")
    if [[ $refusal != rate_limited ]]; then break; fi
    sleep 2
  done
  if [[ -z $refusal ]] && grep -q '"requests"' "$work/body"; then stub=yes; fi
fi
if [[ -n $refusal && $refusal != not_found ]]; then
  verdict FAIL "proxy" "$refusal: $(sed -n 's/.*"detail": *"\([^"]*\)".*/\1/p' "$work/body"); what is behind /proxy/ was not tried"
elif [[ $stub != yes ]]; then
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
