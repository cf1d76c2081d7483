#!/usr/bin/env bash
# payment_errors.sh enable [RATE] | disable: this share of the requests to payments ends in a 503.
set -euo pipefail

case ${1:-} in
  enable) value=${2:-0.8} ;;
  disable) value=off ;;
  *)
    echo "usage: $0 enable [RATE] | disable" >&2
    exit 2
    ;;
esac
exec bash "$(dirname "${BASH_SOURCE[0]}")/set.sh" payments error_rate "$value"
