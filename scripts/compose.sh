# shellcheck shell=bash
# For deploy.sh, backup.sh and restore.sh, which source it: messages, .env, and Compose under either of its names.
# Everything runs in the directory of the compose files. `COMPOSE="docker compose"` or `COMPOSE=docker-compose` picks one.

STATE=.deploy

say() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  if (($#)); then printf '       %s\n' "$@" >&2; fi
  exit 1
}

# What is missing, and what to do about it.
require_docker() {
  command -v docker >/dev/null ||
    die "Docker is not installed: there is no docker command on the PATH." \
      "Install Docker Engine 20.10 or newer and its Compose plugin."
  local answer
  if ! answer=$(docker version --format '{{.Server.Version}}' 2>&1); then
    die "The Docker daemon does not answer: ${answer##*$'\n'}" \
      "Start it (sudo systemctl start docker), or join the group docker if permission was denied."
  fi
  if [[ -n ${COMPOSE:-} ]]; then
    read -r -a compose_command <<<"$COMPOSE"
    compose version >/dev/null 2>&1 ||
      die "COMPOSE=$COMPOSE does not work here." "Leave it out, or choose 'docker compose' or docker-compose."
  elif docker compose version >/dev/null 2>&1; then
    compose_command=(docker compose)
  elif command -v docker-compose >/dev/null; then
    compose_command=(docker-compose)
  else
    die "Docker Compose is missing: neither 'docker compose' nor 'docker-compose' works." \
      "Install the package docker-compose-plugin (or docker-compose 1.29)."
  fi
}

# docker-compose 1.29 reads COMPOSE_IGNORE_ORPHANS from the environment only, and otherwise advises with every command to
# remove what docker-compose.monitoring.yml has started. Its `run` does not read the variable at all.
compose() {
  local -x COMPOSE_IGNORE_ORPHANS=true
  if [[ ${1:-} == run ]]; then
    { "${compose_command[@]}" "$@" 2>&1 >&3 3>&- | sed '/--remove-orphans/d' >&2; } 3>&1
  else
    "${compose_command[@]}" "$@"
  fi
}

# The value that Compose sees: the environment wins over .env.
setting() {
  if [[ -n ${!1:-} ]]; then printf '%s\n' "${!1}"; else in_file "$1"; fi
}

# The value in .env, as Compose reads it: quotes end it, and so does a # after a space.
in_file() {
  # Bytes: in a locale of UTF-8, no pattern matches a line with a byte of another encoding.
  local LC_ALL=C line value=
  if [[ ! -f .env ]]; then return 0; fi
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*(.*)$ ]]; then value=${BASH_REMATCH[2]}; fi
  done <.env
  value=${value%$'\r'}
  case $value in
    \"*\"*) value=${value#\"} value=${value%%\"*} ;;
    \'*\'*) value=${value#\'} value=${value%%\'*} ;;
    *) value=${value%%[[:space:]]#*} ;;
  esac
  printf '%s\n' "${value%"${value##*[![:space:]]}"}"
}

# Deployments and restores come one after the other. Held until this shell ends, however it ends.
take_lock() {
  (umask 077 && mkdir -p "$STATE")
  if command -v flock >/dev/null; then
    exec 9>"$STATE/lock"
    flock -n 9 || die "Another deployment or restore is under way." "It holds $STATE/lock; wait for it to end."
  fi
}

# The ids of a service's running containers, one a line.
containers() {
  local id
  for id in $(compose ps -q "$1" 2>/dev/null); do
    if [[ $(docker inspect --format '{{.State.Running}}' "$id" 2>/dev/null) == true ]]; then printf '%s\n' "$id"; fi
  done
}

# The one running container of a service.
container() {
  local id
  id=$(containers "$1")
  id=${id%%$'\n'*}
  [[ -n $id ]] || die "$1 is not running." "See: bash deploy.sh status"
  printf '%s\n' "$id"
}

# wait_for SECONDS COMMAND...: until the command succeeds; 1 when the time is over, 2 when it answers 2: hopeless.
wait_for() {
  local end=$((SECONDS + $1)) status
  shift
  while true; do
    status=0
    "$@" || status=$?
    if ((status == 0 || status == 2)); then return "$status"; fi
    if ((SECONDS >= end)); then return 1; fi
    sleep 0.5
  done
}
