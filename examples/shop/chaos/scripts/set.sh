#!/usr/bin/env bash
# set.sh SERVICE SETTING VALUE|off: one setting of the chaos of a service, for the scripts beside this one.
#
# With REDIS_URL, and where there is a redis-cli, the setting is a key there: chaos:payments:error_rate. Otherwise the
# service is told at /chaos/config: PAYMENTS_URL and INVENTORY_URL say where it is, http://localhost:8002 and :8003 if
# they are not set. A service that has a Redis writes the same key then.
set -euo pipefail

service=$1 setting=$2 value=$3
if [[ $value == off ]]; then value=0; fi
if [[ ! $value =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
  echo "$setting must be a number, not $value" >&2
  exit 2
fi

if [[ -n ${REDIS_URL:-} ]] && command -v redis-cli >/dev/null; then
  key=chaos:$service:$setting
  if [[ $value == 0 ]]; then
    redis-cli -u "$REDIS_URL" --no-auth-warning del "$key" >/dev/null
  else
    redis-cli -u "$REDIS_URL" --no-auth-warning set "$key" "$value" >/dev/null
  fi
else
  case $service in
    payments) url=${PAYMENTS_URL:-http://localhost:8002} ;;
    inventory) url=${INVENTORY_URL:-http://localhost:8003} ;;
    *)
      echo "there is no chaos for $service" >&2
      exit 2
      ;;
  esac
  body="{\"$setting\": $value}"
  if command -v curl >/dev/null; then
    curl -fsS -o /dev/null -X PUT "$url/chaos/config" -H 'Content-Type: application/json' -d "$body"
  else
    python3 -c 'import sys, urllib.request as web
web.urlopen(web.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"}, method="PUT"))' \
      "$url/chaos/config" "$body"
  fi
fi
echo "$service: $setting = $value"
