#!/usr/bin/env bash
# inventory_lock.sh enable [MILLISECONDS] | disable: inventory holds its locks so much longer.
set -euo pipefail

case ${1:-} in
  enable) value=${2:-150} ;;
  disable) value=off ;;
  *)
    echo "usage: $0 enable [MILLISECONDS] | disable" >&2
    exit 2
    ;;
esac
exec bash "$(dirname "${BASH_SOURCE[0]}")/set.sh" inventory lock_contention_ms "$value"
