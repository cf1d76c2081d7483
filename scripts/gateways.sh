# shellcheck shell=bash
# For deploy.sh, which sources it: how the gateways that run are replaced by others, reloaded or restarted.
#
# Several gateways (docker-compose.scale.yml): `docker-compose up` alone would replace all at once. So others carry the
# traffic meanwhile.
# A single gateway publishes a fixed port, which no second one can have meanwhile: `docker-compose up` replaces it, and new
# connections wait until the new one listens.
# From the one to the other the port changes hands between two containers. The new owner starts without a network, and
# joins it when it listens: Docker publishes the port at that moment. New connections wait here too, for a fraction of a
# second. What the old owner had accepted is finished first.

# shellcheck source=scripts/held_port.sh
. "${BASH_SOURCE[0]%/*}/held_port.sh"

scaled() { [[ $(setting COMPOSE_FILE) == *scale* ]]; }

# has LINES WORD: whether the word is one of the lines.
has() { [[ $'\n'$1$'\n' == *$'\n'$2$'\n'* ]]; }

# The project's name, as both versions of Compose find it.
project() {
  local name
  name=$(setting COMPOSE_PROJECT_NAME)
  if [[ -z $name ]]; then name=$(basename "$PWD"); fi
  printf '%s\n' "${name,,}" | tr -cd 'a-z0-9_-'
}

# members all|running [SERVICE]: ids of the project's containers, one a line; not those of `compose run`.
members() {
  local options=(-q --no-trunc --filter "label=com.docker.compose.project=$(project)" --filter label=com.docker.compose.oneoff=False)
  if [[ $1 == all ]]; then options+=(-a); fi
  if (($# > 1)); then options+=(--filter "label=com.docker.compose.service=$2"); fi
  docker ps "${options[@]}"
}

# What Compose noted on a container: `label ID service`, or `label ID project.config_files`.
label() { docker inspect --format "{{index .Config.Labels \"com.docker.compose.$2\"}}" "$1" 2>/dev/null; }

# The containers of services that have left COMPOSE_FILE. They were started together with the main file: what another
# file started by itself (docker-compose.monitoring.yml) is none of them.
leavers() {
  local id services service files
  services=$(compose config --services)
  for id in $(members running); do
    service=$(label "$id" service)
    files=$(label "$id" project.config_files)
    if [[ $files == *docker-compose.prod.yml* || $files == *docker-compose.yml* ]] && ! has "$services" "$service"; then
      printf '%s\n' "$id"
    fi
  done
}

# stop_leavers [SERVICE]
stop_leavers() {
  local id
  for id in $(leavers); do
    if (($#)) && [[ $(label "$id" service) != "$1" ]]; then continue; fi
    say "stopping $(label "$id" service), which has left COMPOSE_FILE"
    docker stop "$id" >/dev/null || return 1
    docker rm "$id" >/dev/null || return 1
  done
}

# What Compose makes of its files and .env. Containers stay as they are while it and their image do.
shape() { compose config | sha256sum; }

# Whether `up` would replace the gateways that run.
# shellcheck disable=SC2153,SC2154  # deploy.sh sets the tag, compose.sh STATE
would_replace() {
  local id image
  image=$(names)
  image=$(image_id "${image%%$'\n'*}:$tag" || true)
  if [[ ! -f $STATE/shape || $(shape) != "$(cat "$STATE/shape")" ]]; then return 0; fi
  for id in "$@"; do
    if [[ $(docker inspect --format '{{.Image}}' "$id") != "$image" ]]; then return 0; fi
  done
  return 1
}

# One name for each checkout and number, so that what a crash left behind goes now.
bridge_name() { printf 'gateway-bridge-%s-%s\n' "$(pwd | cksum | cut -d ' ' -f 1)" "$1"; }

# Gateways that publish no port and are found by nginx under the service's name, one for each that runs now: they carry
# the traffic while those of the service are replaced. Not containers of the service themselves, because those are
# numbered on, and docker-compose 1.29 looks for number 1 with `exec` and `port`.
start_bridges() {
  local name
  while ((${#bridges[@]} < $1)); do
    name=$(bridge_name "${#bridges[@]}")
    docker rm -f "$name" >/dev/null 2>&1 || true
    bridges+=("$name")
    compose run -d --no-deps --use-aliases --name "$name" proxy-service >/dev/null </dev/null || return 1
  done
  for name in "${bridges[@]}"; do wait_for "$READY_SECONDS" gateway_ready "$name" || return 1; done
}

end_bridges() {
  local name
  for name in "${bridges[@]}"; do
    docker stop -t 45 "$name" >/dev/null 2>&1 || true
    docker rm -f "$name" >/dev/null 2>&1 || true
  done
  bridges=()
}

network_of() { docker inspect --format '{{.HostConfig.NetworkMode}}' "$1"; }

# start_apart ID: start what was created, without a network and so without its published port.
start_apart() {
  docker network disconnect "$(network_of "$1")" "$1" && docker start "$1" >/dev/null
}

# give_port ID SERVICE: join the network, under the service's name. Redis and upstreams are found from here on.
give_port() { docker network connect --alias "$2" "$(network_of "$1")" "$1"; }

# nginx asks for the addresses of its gateways every second.
let_nginx_look() { sleep "${NGINX_SECONDS:-2}"; }

# stays_single IDS: whether one gateway follows one, on the same port.
stays_single() { ! scaled && [[ $(label "${1%%$'\n'*}" project.config_files) != *scale* ]]; }

# Everything that stands beside the gateways.
up_beside() {
  local service beside=()
  for service in $(compose config --services); do
    if [[ $service != proxy-service && $service != nginx ]]; then beside+=("$service"); fi
  done
  if ((${#beside[@]})); then compose up -d "${beside[@]}" || return 1; fi
}

# Replace the gateways without stopping all at once. Nothing to do where nothing runs, where nothing changes, and from a
# single gateway to a single one.
#
# No `up --no-deps` here: Compose v2 leaves depends_on out of what it makes then, so that the next plain `up` takes each of
# these containers for another one and replaces all of them at the same time. Instead, what they depend on comes first.
replace_beside() {
  local id old door=''
  old=$(members running proxy-service)
  if [[ -z $old ]]; then return 0; fi
  if stays_single "$old"; then return 0; fi
  # shellcheck disable=SC2086  # one word for each id
  if ! would_replace $old; then return 0; fi
  up_beside || return 1
  start_bridges "$(wc -l <<<"$old")" || return 1
  if [[ -z $(members running nginx) ]]; then
    compose up --no-start nginx || return 1
    door=$(members all nginx)
    start_apart "$door" || return 1
  fi
  let_nginx_look
  if [[ -n $door ]]; then hold_port; fi
  # Those that have ended too: what is made anew begins with number 1.
  for id in $(members all proxy-service); do
    docker stop -t 45 "$id" >/dev/null || return 1
    docker rm "$id" >/dev/null || return 1
  done
  if scaled; then
    # Where there was a single gateway, nginx has waited for its port.
    if [[ -n $door ]]; then give_port "$door" nginx || return 1; fi
    release_port
    compose up -d proxy-service || return 1
  else
    compose up --no-start proxy-service || return 1
    id=$(members all proxy-service)
    start_apart "$id" || return 1
    wait_for "$READY_SECONDS" gateway_ready "$id" || return 1
    hold_port
    stop_leavers nginx || return 1
    give_port "$id" proxy-service || return 1
    release_port
  fi
  await_gateways || return 1
  let_nginx_look
  end_bridges
}

# The settings, by their contents. In a container too: there .env may be a link.
FINGERPRINT='export LC_ALL=C; find -H .env config -type f -exec sha256sum {} + | sort | sha256sum'
fingerprint() { sh -c "$FINGERPRINT"; }

# What the gateway says of the last time that it read its configuration, without spaces. Nothing where it cannot be asked.
last_reload() {
  local answer
  answer=$(docker exec "$1" curl -fsS -m 2 http://127.0.0.1:5000/api/resilience/workers 2>/dev/null) || return 0
  answer=${answer//[[:space:]]/}
  if [[ $answer =~ \"lastReload\":\{([^}]*)\} ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; fi
}

time_of() { if [[ $1 =~ \"time\":\"([^\"]*)\" ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; fi; }

# has_reloaded ID TIME: whether it has read its configuration since, and taken it. Refused: 2.
has_reloaded() {
  local said
  said=$(last_reload "$1")
  if [[ -z $(time_of "$said") || ! $(time_of "$said") > $2 ]]; then return 1; fi
  [[ $said == *'"successful":true'* ]] || return 2
}

# Have new workers with the settings of now in a gateway that goes on running. With a failure it serves as before, and
# the reason why it has to be restarted is said.
reload() {
  local before status=0
  before=$(time_of "$(last_reload "$1")")
  # The new settings may move what is asked, too.
  if [[ -z $before || -n $(in_file ADMIN_PORT) ]]; then
    say "restarting the gateway: it does not show reloads on this port (an older image, or ADMIN_PORT)"
    return 1
  fi
  # A file that an editor has put in the place of another one is not the one that the container has.
  if [[ $(docker exec "$1" sh -c "$FINGERPRINT" 2>/dev/null) != "$(fingerprint)" ]]; then
    say "restarting the gateway: its container does not have the new files yet"
    return 1
  fi
  # From inside. After `docker kill`, with whatever signal, Docker takes the container for one that was stopped on purpose,
  # and does not start it again after a crash or with the host (github.com/moby/moby/issues/41302).
  if ! docker exec "$1" sh -c 'kill -HUP 1'; then
    warn "restarting the gateway: it cannot be told to reload"
    return 1
  fi
  wait_for "$READY_SECONDS" has_reloaded "$1" "$before" || status=$?
  case $status in
    0) say "reloaded in place" ;;
    2) warn "restarting the gateway: it has refused the reload; its log says why" ;;
    *) warn "restarting the gateway: it has not reloaded within $READY_SECONDS s" ;;
  esac
  return "$status"
}

# up no|reload|restart: what becomes of the gateways whose containers stay.
up() {
  local id kept renew=$1 hold=no
  kept=$(members running proxy-service)
  # shellcheck disable=SC2086  # one word for each id
  if [[ -n $kept ]] && stays_single "$kept" && would_replace $kept; then hold=yes; fi
  replace_beside || return 1
  # It has the port that a single gateway needs. Other services go when nobody asks them any more.
  stop_leavers nginx || return 1
  if [[ $hold == yes ]]; then
    # Redis may take longer than anybody should wait, and the gateway answers meanwhile.
    up_beside || return 1
    hold_port
  fi
  compose up -d || return 1
  if [[ $hold == yes ]]; then await_gateways || return 1; fi
  release_port
  # A gateway that `up` did not replace still has the old settings. One after the other: several never stop together.
  for id in $kept; do
    if [[ $renew != no ]] && docker inspect "$id" >/dev/null 2>&1; then
      if [[ $renew == restart ]] || ! reload "$id"; then
        if ! scaled; then hold_port; fi
        docker restart -t 45 "$id" >/dev/null || return 1
      fi
      wait_for "$READY_SECONDS" gateway_ready "$id" || return 1
      release_port
    fi
  done
  all_ready || return 1
  stop_leavers
}

# Ready: it answers 200 on /readyz from inside. Hopeless (2): it has ended, or keeps being restarted.
gateway_ready() {
  local state
  state=$(docker inspect --format '{{.State.Status}} {{.RestartCount}}' "$1" 2>/dev/null) || return 2
  case $state in
    exited* | dead*) return 2 ;;
    *" 0" | *" 1" | *" 2") ;;
    *) return 2 ;;
  esac
  docker exec "$1" curl -fsS -m 2 -o /dev/null http://127.0.0.1:5000/readyz >/dev/null 2>&1
}

# Every gateway that runs is ready, and one does run.
await_gateways() {
  local id ids
  ids=$(members running proxy-service)
  [[ -n $ids ]] || return 1
  for id in $ids; do wait_for "$READY_SECONDS" gateway_ready "$id" || return 1; done
}

all_ready() {
  local place
  await_gateways || return 1
  wait_for 30 redis_answers || return 1
  for place in $(entrance); do wait_for 10 answers "$place" || return 1; done
}

redis_answers() {
  local services
  services=$(compose config --services)
  if ! has "$services" redis; then return 0; fi
  [[ $(compose exec -T redis redis-cli ping </dev/null 2>/dev/null) == *PONG* ]]
}

# Through the published port, from this host. Without curl: something must listen there.
answers() {
  if command -v curl >/dev/null; then
    curl -fsS -m 2 -o /dev/null "http://$1/readyz" 2>/dev/null
  else
    listens "$1"
  fi
}
