#!/usr/bin/env bash
# Builds, checks, tries, starts and goes back. `bash deploy.sh help` lists the commands.
#
# In this order, so that a mistake is found before it costs anything:
#   prerequisites -> .env -> compose files -> ports -> image `candidate` -> `gateway check` in it -> a trial gateway
#   beside those that run -> now the images get their names, `up`, every gateway ready -> the next step
# What fails before `up` leaves everything as it runs. What fails after it, or is interrupted there, goes back to the
# images and the .env that were deployed last. Only what succeeded is noted: image and .env of the deployment before it,
# together, as the image `previous` and .deploy/env.previous. Nothing here removes data.

set -Eeuo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=scripts/compose.sh
. scripts/compose.sh
# shellcheck source=scripts/gateways.sh
. scripts/gateways.sh

READY_SECONDS=${READY_SECONDS:-60}
PULL=missing
BUILD=yes
RESTART=no
phase=checking
trial=
env_replaced=no
before=()
bridges=()
mode=

usage() {
  cat <<'TEXT'
bash deploy.sh COMMAND [OPTION]...

  dev              deploy for development: gateway on 5000, stub upstream on 5001, Redis
  prod             deploy for production
  status           what runs, and how it is
  logs [SERVICE]   the last log lines, and what follows on a terminal
  restart          what is deployed, with the settings of .env and config/ as they are now; several gateways one by one
  stop             stop and remove the containers; images and data stay
  backup           Redis and the settings, into redis-backups/
  restore FILE     a Redis backup back into Redis
  monitoring [ARG]  start Prometheus, Alertmanager and Grafana; with arguments: Compose for them (ps, logs, down, ...)
  update           the same as dev or prod, whichever runs, with newer base images
  rollback         the image and the .env of the deployment before this one
  help             this text

Options of dev, prod, update and rollback
  --no-pull        never pull an image; what is missing is an error
  --no-build       use the image that is here (or that DOCKER_IMAGE names) instead of building one

Environment: READY_SECONDS (60) for a gateway to become ready, HOLD_SECONDS (15) for new connections to wait at most while
the port has no owner, COMPOSE ("docker compose" or docker-compose).
TEXT
}

# Images. `candidate` becomes `latest` (or `dev`); what had that name becomes `previous` once the new one serves.

names() {
  local image
  image=$(setting DOCKER_IMAGE)
  image=${image:-resilient-api-gateway}
  printf '%s\n' "$image" "$image-stub"
}

image_id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null; }

obtain_images() {
  local image base ours
  ours=$(names)
  ours=${ours%%$'\n'*}
  base=$(sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile)
  for image in $(compose config | sed -n 's/^ *image: *//p' | tr -d "\"'" | sort -u) "$base"; do
    if [[ $image == "$ours"* || ($image == "$base" && $BUILD == no) ]]; then continue; fi
    obtain "$image"
  done
  if [[ $BUILD == yes ]]; then
    say "building the image"
    DOCKER_IMAGE_TAG=candidate compose build ||
      die "The image could not be built." "What runs was not touched."
  else
    if [[ $PULL == all ]]; then docker pull "$ours:$tag" || warn "could not pull $ours:$tag: using the one that is here"; fi
    for image in $(names); do
      if image_id "$image:$tag" >/dev/null; then docker tag "$image:$tag" "$image:candidate"; fi
    done
    image_id "$ours:candidate" >/dev/null || die "There is no image $ours:$tag." "Leave out --no-build to build it."
  fi
}

obtain() {
  local present=no
  if image_id "$1" >/dev/null; then present=yes; fi
  case $PULL/$present in
    all/* | missing/no) ;;
    never/no) die "The image $1 is not here, and --no-pull forbids pulling it." "Without --no-pull: docker pull $1" ;;
    *) return 0 ;;
  esac
  say "pulling $1"
  if docker pull "$1"; then return 0; fi
  if [[ $present == yes ]]; then
    warn "could not pull $1: using the one that is here"
  else
    die "The image $1 could not be pulled and is not here." "Check the registry and the network. What runs was not touched."
  fi
}

# The settings.

prepare_env() {
  local template=.env.prod
  if [[ $mode == dev ]]; then template=.env.example; fi
  if [[ -d .env ]]; then rmdir .env 2>/dev/null || die ".env is a directory." "Move it away and deploy again."; fi
  if [[ ! -e .env ]]; then
    (umask 077 && cp "$template" .env.new && mv .env.new .env)
    say "wrote .env from $template"
  fi
  local files
  files=$(setting COMPOSE_FILE)
  if [[ $mode == prod && $files != *docker-compose.prod.yml* ]]; then
    die ".env is not for production: it has no COMPOSE_FILE=docker-compose.prod.yml." \
      "Move it away (mv .env .env.dev) and deploy again, or start from .env.prod."
  elif [[ $mode == dev && $files == *prod* ]]; then
    die ".env is for production: COMPOSE_FILE=$files." "Move it away (mv .env .env.live) and deploy again."
  fi
  if [[ $mode == prod ]]; then
    make_secret REDIS_PASSWORD
    make_secret ADMIN_TOKEN
  fi
  if [[ $(setting REDIS_PASSWORD) == *[!A-Za-z0-9]* ]]; then
    die "REDIS_PASSWORD in .env: only letters and digits, please." \
      "Compose, redis.conf and the gateway each read other characters in their own way."
  fi
  local port
  port=$(in_file PORT)
  if [[ -n $port && $port != 5000 ]]; then
    warn "PORT=$port in .env has no effect in a container. To publish the gateway there: DOCKER_PUBLISH=$port"
  fi
  protect_env
}

# Fill in what is empty.
make_secret() {
  if [[ -n $(setting "$1") ]]; then return 0; fi
  (umask 077 && with_secret "$1" <.env >"$STATE/env.new")
  write_env "$STATE/env.new"
  rm -f "$STATE/env.new"
  say "made $1, in .env"
}

# .env with a new value for $1. In the shell alone: an argument of another program is for everybody on this host to see.
with_secret() {
  local line secret written=no
  secret=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  # The last line may lack its end.
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*= ]]; then line=$1=$secret written=yes; fi
    printf '%s\n' "$line"
  done
  if [[ $written == no ]]; then printf '%s=%s\n' "$1" "$secret"; fi
}

# In place, because the containers have this very file, and owner and mode stay. No signal stops it halfway; whatever
# else does (a full disk, kill -9) leaves the whole text in $1.
write_env() { (trap '' INT TERM HUP && cat "$1" >.env); }

# Only its owner and the gateway may read the passwords.
protect_env() {
  local user
  if ((EUID == 0)); then
    user=$(setting DOCKER_USER)
    user=${user:-10001:10001}
    chgrp "${user#*:}" .env
    chmod 640 .env
  else
    if [[ -z $(setting DOCKER_USER) ]]; then
      printf '\n# Whoever owns this file runs the gateway, so that nobody else need read it.\nDOCKER_USER=%s:%s\n' "$(id -u)" "$(id -g)" >>.env
    fi
    chmod 600 .env
  fi
}


check_compose() {
  local problem
  problem=$(compose config -q 2>&1) || die "The compose files and .env do not fit together:" "$problem" "What runs was not touched."
  problem=$(setting DOCKER_PUBLISH)
  if scaled && [[ $problem != *: ]]; then
    die "docker-compose.scale.yml needs DOCKER_PUBLISH=127.0.0.1: in .env (it is '$problem'): several gateways cannot have one port." \
      "What runs was not touched."
  elif ! scaled && [[ $problem == *: ]]; then
    die "DOCKER_PUBLISH=$problem in .env is for docker-compose.scale.yml: a single gateway needs a port." \
      "For instance DOCKER_PUBLISH=5000. What runs was not touched."
  fi
}

check_settings() {
  say "checking the configuration"
  local answer status=0
  answer=$(DOCKER_IMAGE_TAG=candidate compose run --rm --no-deps -T proxy-service python -m gateway check </dev/null 2>"$STATE/check.err") || status=$?
  if ((status)); then
    if [[ -z $answer ]]; then
      die "The configuration could not be checked:" "$(tail -n 5 "$STATE/check.err")" "What runs was not touched."
    fi
    die "The configuration is wrong:" "${answer//$'\n'/$'\n'       }" "What runs was not touched."
  fi
  printf '    %s\n' "$answer"
}

# ADDRESS:PORT of what this deployment publishes, seen from this host, as far as the port is fixed.
published() {
  local value address
  for name in "$@"; do
    value=$(setting "${name%%:*}")
    value=${value:-${name#*:}}
    address=127.0.0.1
    if [[ $value == *:* && ${value%:*} != 0.0.0.0 && ${value%:*} != "[::]" ]]; then address=${value%:*}; fi
    value=${value##*:}
    if [[ $value =~ ^[0-9]+$ ]]; then printf '%s:%s\n' "$address" "$value"; fi
  done
}

entrance() {
  if scaled; then published DOCKER_NGINX_PUBLISH:5000; else published DOCKER_PUBLISH:5000; fi
}

listens() {
  local address=${1%:*}
  (exec 3<>"/dev/tcp/${address//[][]/}/${1##*:}") 2>/dev/null
}

# Before anything is stopped. What this project publishes itself is no stranger's, whatever COMPOSE_FILE says now.
check_ports() {
  local name place port id own='' wanted=(DOCKER_PUBLISH:5000)
  for id in $(members running); do own+=" $(docker port "$id" 2>/dev/null || true)"; done
  if scaled; then wanted=(DOCKER_NGINX_PUBLISH:5000); fi
  if [[ $mode == dev ]]; then wanted+=(DOCKER_STUB_PUBLISH:5001); fi
  for name in "${wanted[@]}"; do
    place=$(published "$name")
    port=${place##*:}
    if [[ -n $place && ! $own =~ :$port([^0-9]|$) ]] && listens "$place"; then
      die "Port $port is taken by another program." \
        "Find it with: ss -ltnp 'sport = :$port'. Or publish elsewhere, in .env: ${name%%:*}=5080" \
        "What runs was not touched."
    fi
  done
}

try_out() {
  say "trying it beside what runs"
  # One name for each checkout, so that a trial that was left behind by a crash goes now.
  trial=gateway-trial-$(pwd | cksum | cut -d ' ' -f 1)
  docker rm -f "$trial" >/dev/null 2>&1 || true
  DOCKER_IMAGE_TAG=candidate compose run -d --no-deps --name "$trial" proxy-service >"$STATE/trial.out" 2>&1 </dev/null ||
    die "A trial gateway could not be started:" "$(tail -n 5 "$STATE/trial.out")" "What runs was not touched."
  if ! wait_for "$READY_SECONDS" gateway_ready "$trial"; then
    printf -- '--- the last log lines of the trial gateway\n' >&2
    docker logs --tail 40 "$trial" >&2 2>&1 || true
    printf -- '---\n' >&2
    die "The new gateway did not become ready within $READY_SECONDS s." "What runs was not touched."
  fi
  end_trial
}

end_trial() {
  if [[ -n $trial ]]; then
    docker stop -t 5 "$trial" >/dev/null 2>&1 || true
    docker rm -f "$trial" >/dev/null 2>&1 || true
    trial=
  fi
}

# The switch, and the way back.

name_images() {
  local image new
  for image in $(names); do
    new=$(image_id "$image:candidate") || continue
    docker tag "$new" "$image:$tag"
    docker rmi "$image:candidate" >/dev/null
  done
}

drop_candidates() {
  local image
  for image in $(names); do
    if image_id "$image:candidate" >/dev/null; then docker rmi "$image:candidate" >/dev/null 2>&1 || true; fi
  done
}

show_failure() {
  printf -- '--- what runs, and the last log lines\n' >&2
  compose ps >&2 || true
  compose logs --tail=40 proxy-service redis >&2 2>&1 || true
  printf -- '---\n' >&2
}

go_back() {
  phase=going-back
  local image
  for image in $(names); do
    if [[ -n ${was[$image]:-} ]]; then docker tag "${was[$image]}" "$image:$tag"; fi
  done
  if [[ -f $STATE/env ]] && ! cmp -s "$STATE/env" .env; then
    cp -p .env .env.rejected
    write_env "$STATE/env"
    warn "the .env that failed is now .env.rejected; .env is the one that was deployed before"
  fi
  if ((${#before[@]} == 0)); then
    warn "nothing ran before: removing what was started"
    compose rm --stop --force >/dev/null 2>&1 || true
    # An image that never served must not be what a later deployment goes back to.
    for image in $(names); do
      if [[ -z ${was[$image]:-} ]]; then docker rmi "$image:$tag" >/dev/null 2>&1 || true; fi
    done
    return
  fi
  warn "going back to what ran before"
  # Whatever was not replaced may have been restarted with other settings.
  if up restart; then
    warn "what ran before runs again"
  else
    warn "what ran before does not become ready either: bash deploy.sh logs proxy-service"
  fi
}

finish() {
  local status=$?
  trap '' INT TERM HUP
  trap - EXIT
  end_trial
  release_port
  if [[ $env_replaced == yes ]]; then
    write_env "$STATE/env.undo"
    rm -f "$STATE/env.undo"
  fi
  if [[ $phase == switching ]]; then
    if ((status == 0)); then status=1; fi
    go_back
    printf 'error: not deployed\n' >&2
  fi
  # After going back, which goes on with them.
  end_bridges
  drop_candidates
  exit "$status"
}

begin() {
  take_lock
  if [[ -f $STATE/env.undo ]]; then
    mv "$STATE/env.undo" .env.before-rollback
    warn "an earlier rollback was cut off. The .env it replaced is now .env.before-rollback; compare it with .env"
  fi
  trap finish EXIT
  obey_signals
}

obey_signals() {
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# What runs now, to come back to.
look_at_what_runs() {
  local image
  mapfile -t before < <(containers proxy-service)
  for image in $(names); do was[$image]=$(image_id "$image:$tag" || true); done
}

switch_over() {
  local renew=no
  check_settings
  try_out
  if [[ $RESTART == yes || ! -f $STATE/settings ]]; then
    renew=restart
  elif [[ $(fingerprint) != "$(cat "$STATE/settings")" ]]; then
    renew=reload
  fi
  phase=switching
  name_images
  say "starting"
  if ! up "$renew"; then
    show_failure
    exit 1
  fi
  record
}

# What was deployed before and what is deployed now. Images and .env of one deployment stay together: both halves move to
# `previous` when either has changed, and neither does otherwise.
record() {
  local image changed=no
  if [[ -f $STATE/env ]] && ! cmp -s "$STATE/env" .env; then changed=yes; fi
  for image in $(names); do
    if [[ $(image_id "$image:$tag" || true) != "${was[$image]:-}" ]]; then changed=yes; fi
  done
  # Whatever needs room on the disk first: if that fails, the deployment has failed.
  (
    umask 077
    cp .env "$STATE/env.deployed"
    fingerprint >"$STATE/settings.deployed"
    shape >"$STATE/shape.deployed"
  )
  trap '' INT TERM HUP
  phase=deployed
  if [[ $changed == yes ]]; then
    for image in $(names); do
      if [[ -n ${was[$image]:-} ]]; then docker tag "${was[$image]}" "$image:$previous"; fi
    done
    rm -f "$STATE/env.previous"
    if [[ -f $STATE/env ]]; then mv "$STATE/env" "$STATE/env.previous"; fi
  fi
  mv "$STATE/env.deployed" "$STATE/env"
  mv "$STATE/settings.deployed" "$STATE/settings"
  mv "$STATE/shape.deployed" "$STATE/shape"
  env_replaced=no
  rm -f "$STATE/env.undo"
  obey_signals
}

set_mode() {
  mode=$1
  case $mode in
    prod) tag=latest previous=previous ;;
    dev) tag=dev previous=dev-previous ;;
    *) die "'$mode' is neither dev nor prod." ;;
  esac
  declare -gA was=()
}

current_mode() {
  [[ -f .env ]] || die "There is no .env here: nothing was deployed." "First: bash deploy.sh prod"
  if [[ $(setting COMPOSE_FILE) == *prod* ]]; then echo prod; else echo dev; fi
}

deploy() {
  set_mode "$1"
  require_docker
  begin
  prepare_env
  check_compose
  look_at_what_runs
  if [[ $RESTART == yes ]] && ((${#before[@]} == 0)); then die "No gateway runs." "Start with: bash deploy.sh $mode"; fi
  check_ports
  obtain_images
  switch_over
  status
  next_steps
}

roll_back() {
  local image found
  # In a statement of its own, so that this ends here when there is no .env.
  found=$(current_mode)
  set_mode "$found"
  found=no
  [[ -f $STATE/env ]] || die "Nothing was deployed from this directory: there is nothing to go back to." "First: bash deploy.sh $mode"
  require_docker
  begin
  look_at_what_runs
  for image in $(names); do
    if image_id "$image:$previous" >/dev/null; then
      docker tag "$image:$previous" "$image:candidate"
      found=yes
    elif image_id "$image:$tag" >/dev/null; then
      docker tag "$image:$tag" "$image:candidate"
    fi
  done
  if [[ -f $STATE/env.previous ]]; then
    if ! cmp -s "$STATE/env" .env; then
      cp -p .env .env.rejected
      warn ".env was edited after the last deployment: kept as .env.rejected"
    fi
    (umask 077 && cp .env "$STATE/env.undo")
    env_replaced=yes
    write_env "$STATE/env.previous"
    found=yes
  fi
  [[ $found == yes ]] || die "There is no deployment before this one to go back to."
  check_compose
  check_ports
  say "going back to the deployment before this one"
  switch_over
  status
  say "once more 'bash deploy.sh rollback' returns to the later one"
}

status() {
  local id
  compose ps
  for id in $(containers proxy-service); do
    printf '\n%s\n' "$(docker inspect --format '{{.Name}}  {{.Config.Image}}  up since {{.State.StartedAt}}' "$id")"
    docker exec "$id" curl -sS -m 3 http://127.0.0.1:5000/health 2>&1 || true
  done
  [[ -n $(containers proxy-service) ]] || die "No gateway runs." "Start with: bash deploy.sh prod (or dev)"
}

next_steps() {
  local place
  place=$(entrance)
  say "deployed. Next: curl http://${place/127.0.0.1/localhost}/health"
  if [[ $mode == prod ]]; then
    if [[ $(setting COMPOSE_PROFILES) == *stub* ]]; then
      say "traffic goes to the stub upstream: set UPSTREAM_URL in .env, remove COMPOSE_PROFILES, deploy again"
    fi
    say "every endpoint: ./test-endpoints.sh; backups: docs/operations.md"
  else
    say "the tests: ${compose_command[*]} exec proxy-service pytest tests -v"
  fi
}

show_logs() {
  local follow=()
  if [[ -t 1 ]]; then follow=(--follow); fi
  compose logs --tail=100 "${follow[@]}" "$@"
}

# Under docker-compose 1.29 in a project of its own, which no command for the gateway takes for orphans. Compose v2 reads
# COMPOSE_IGNORE_ORPHANS from .env, and would look for the gateway's network under the other project's name.
monitoring() {
  local own=()
  require_docker
  if (($# == 0)); then set -- up -d; fi
  if [[ $(compose version --short) == 1.* ]]; then own=(-p "$(project)-monitoring"); fi
  COMPOSE_PROJECT_NAME=$(project) compose "${own[@]}" -f docker-compose.monitoring.yml "$@"
}

main() {
  local command=${1:-help} arguments=() found
  shift || true
  # Everything else on the line is for Compose.
  if [[ $command == monitoring ]]; then
    monitoring "$@"
    return
  fi
  while (($#)); do
    case $1 in
      --no-pull) PULL=never ;;
      --no-build) BUILD=no ;;
      -h | --help) command=help ;;
      -*) die "unknown option $1" "bash deploy.sh help" ;;
      *) arguments+=("$1") ;;
    esac
    shift
  done
  case $command in
    help | -h | --help) usage ;;
    dev | prod) deploy "$command" ;;
    update)
      if [[ $PULL == missing ]]; then PULL=all; fi
      found=$(current_mode)
      deploy "$found"
      ;;
    rollback) roll_back ;;
    restart)
      found=$(current_mode)
      RESTART=yes BUILD=no PULL=never
      deploy "$found"
      ;;
    status)
      require_docker
      status
      ;;
    logs)
      require_docker
      show_logs "${arguments[@]}"
      ;;
    stop)
      require_docker
      compose rm --stop --force
      say "stopped; images and data are still here"
      ;;
    backup) exec bash scripts/backup.sh "${arguments[@]}" ;;
    restore)
      if ((${#arguments[@]})) && [[ ${arguments[0]} != /* ]]; then arguments[0]=$caller/${arguments[0]}; fi
      exec bash scripts/restore.sh "${arguments[@]}"
      ;;
    *)
      usage >&2
      die "unknown command $command"
      ;;
  esac
}

main "$@"
