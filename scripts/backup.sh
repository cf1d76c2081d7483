#!/usr/bin/env bash
# A snapshot of Redis and an archive of the settings, into redis-backups/ (or the directory given). For cron:
#   0 2 * * * /opt/resilient-api-gateway/scripts/backup.sh >>/var/log/api-gateway-backup.log 2>&1
#
#   redis-backup-TIME.rdb      verified with redis-check-rdb and compared with the original before it gets its name
#   settings-TIME.tar.gz       .env (with its passwords: mode 600), config/, the compose files
#
# KEEP (14): so many of each stay, the oldest go. Exits non-zero when anything is amiss; then nothing is removed.

set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/compose.sh
. scripts/compose.sh

KEEP=${KEEP:-14}
SNAPSHOT_SECONDS=${SNAPSHOT_SECONDS:-120}
directory=${1:-redis-backups}
[[ $KEEP =~ ^[1-9][0-9]*$ ]] || die "KEEP must be a number of at least 1, not '$KEEP'"

require_docker
umask 077
mkdir -p "$directory"
part=$(mktemp -d "$directory/.part-XXXXXX")
trap 'rm -rf -- "$part"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

redis=$(container redis)
in_redis() { docker exec "$redis" "$@"; }
persistence() { in_redis redis-cli INFO persistence | tr -d '\r' | sed -n "s/^$1://p"; }
idle() { [[ $(persistence rdb_bgsave_in_progress) == 0 && $(persistence aof_rewrite_in_progress) == 0 ]]; }

wait_for "$SNAPSHOT_SECONDS" idle || die "Redis is still busy with an earlier snapshot."
answer=$(in_redis redis-cli BGSAVE)
[[ $answer == Background* ]] || die "Redis refused to save: $answer"
wait_for "$SNAPSHOT_SECONDS" idle || die "Redis did not finish its snapshot within $SNAPSHOT_SECONDS s."
[[ $(persistence rdb_last_bgsave_status) == ok ]] || die "Redis could not write its snapshot:" "$(docker logs --tail 5 "$redis" 2>&1)"

in_redis redis-check-rdb /data/dump.rdb >"$part/check.txt" || die "The snapshot is damaged:" "$(tail -n 3 "$part/check.txt")"
sum=$(in_redis sha256sum /data/dump.rdb)
in_redis cat /data/dump.rdb >"$part/dump.rdb"
[[ $(sha256sum <"$part/dump.rdb") == "${sum%% *} "* ]] || die "The copy differs from the snapshot. Is the disk full? Try again."

settings=()
for file in .env config docker-compose*.yml nginx.conf deploy .deploy/env .deploy/env.previous; do
  if [[ -e $file ]]; then settings+=("$file"); fi
done
tar -czf "$part/settings.tar.gz" "${settings[@]}"

time=$(date -u +%Y%m%d-%H%M%S)
mv "$part/dump.rdb" "$directory/redis-backup-$time.rdb"
mv "$part/settings.tar.gz" "$directory/settings-$time.tar.gz"
for kind in redis-backup-*.rdb settings-*.tar.gz; do
  # Names sort by time. The pattern is ours: no other file is touched.
  find "$directory" -maxdepth 1 -type f -name "$kind" | sort -r | tail -n "+$((KEEP + 1))" | while IFS= read -r old; do rm -- "$old"; done
done
say "$directory/redis-backup-$time.rdb ($(in_redis redis-cli DBSIZE) keys) and $directory/settings-$time.tar.gz"
