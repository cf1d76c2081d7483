#!/usr/bin/env bash
# restore.sh FILE.rdb: puts a snapshot that backup.sh made (or any dump.rdb) back into Redis.
#
# Redis stops for a few seconds; the gateways go on with limits of their own meanwhile. The file is verified before that.
# What Redis holds now is kept in its volume, under /data/before-restore, until the next restore; if Redis does not come up
# with the snapshot, it is put back.
#
# Redis is started with an append-only file, and then ignores dump.rdb. So the snapshot becomes the base of a new
# append-only file: such a base is an RDB file, and the manifest only names it.

set -Eeuo pipefail
file=${1:-}
if [[ -n $file && $file != /* ]]; then file=$PWD/$file; fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/compose.sh
. scripts/compose.sh

[[ -n $file ]] || die "Which file?" "bash deploy.sh restore redis-backups/redis-backup-TIME.rdb"
[[ -s $file ]] || die "$file is not there, or empty."
[[ $(head -c 5 "$file") == REDIS ]] || die "$file is not an RDB file."

require_docker
take_lock
redis=$(container redis)
stopped=no
copied=no

# In a container of its own with the volume, because Redis must not run while its files are exchanged.
with_volume() { compose run --rm --no-deps -T redis sh -ec "$1"; }
healthy() { [[ $(docker exec "$redis" redis-cli ping 2>/dev/null) == PONG ]]; }
keys() { docker exec "$redis" redis-cli DBSIZE; }

put_back() {
  # shellcheck disable=SC2016  # for the shell in the container
  with_volume '
    if [ -d /data/before-restore ] && [ ! -e /data/before-restore/incomplete ]; then
      rm -rf /data/appendonlydir /data/dump.rdb
      for file in appendonlydir dump.rdb; do
        if [ -e "/data/before-restore/$file" ]; then cp -pr "/data/before-restore/$file" "/data/$file"; fi
      done
    fi' </dev/null
}

finish() {
  local status=$?
  trap '' INT TERM HUP
  trap - EXIT
  if [[ $stopped == yes ]]; then
    warn "putting back what Redis held before"
    docker stop "$redis" >/dev/null 2>&1 || true
    put_back || true
    docker start "$redis" >/dev/null || true
    if ((status == 0)); then status=1; fi
  fi
  if [[ $copied == yes ]]; then with_volume 'rm -f /data/restore.rdb' </dev/null >/dev/null 2>&1 || true; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "verifying $file"
copied=yes
with_volume 'cat >/data/restore.rdb; redis-check-rdb /data/restore.rdb' <"$file" >/dev/null ||
  die "$file is damaged. Redis was not touched."
size=$(with_volume 'wc -c </data/restore.rdb' </dev/null | tr -dc 0-9)
[[ $size == "$(wc -c <"$file" | tr -dc 0-9)" ]] || die "$file did not arrive complete. Redis was not touched."

say "Redis holds $(keys) keys now; stopping it"
stopped=yes
docker stop "$redis" >/dev/null
# shellcheck disable=SC2016  # for the shell in the container
with_volume '
  cd /data
  rm -rf before-restore
  mkdir before-restore
  : >before-restore/incomplete
  for file in appendonlydir dump.rdb; do
    if [ -e "$file" ]; then cp -pr "$file" before-restore/; fi
  done
  rm before-restore/incomplete
  rm -rf appendonlydir
  mkdir appendonlydir
  cp restore.rdb appendonlydir/appendonly.aof.1.base.rdb
  echo "file appendonly.aof.1.base.rdb seq 1 type b" >appendonlydir/appendonly.aof.manifest
  mv restore.rdb dump.rdb' </dev/null
copied=no
docker start "$redis" >/dev/null
wait_for 60 healthy || {
  docker logs --tail 20 "$redis" >&2 || true
  die "Redis does not come up with this snapshot."
}
stopped=no
say "restored: Redis holds $(keys) keys"
