#!/usr/bin/env bash
# payment_slow.sh enable [MILLISECONDS] | disable: payments takes so much longer for each request.
set -euo pipefail

case ${1:-} in
  enable) value=${2:-3000} ;;
  disable) value=off ;;
  *)
    echo "usage: $0 enable [MILLISECONDS] | disable" >&2
    exit 2
    ;;
esac
exec bash "$(dirname "${BASH_SOURCE[0]}")/set.sh" payments latency_ms "$value"
