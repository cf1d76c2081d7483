"""A `docker` that starts nothing: it keeps image tags and containers in files, and notes every call.

The directory holds `calls` (one line each), `images/{name}` (an id each), `containers/{id}` (service, image,
Compose files, status), `ports/{id}` (what `docker port` says) and `version` (of Compose). Gateways are
`gw-{image}`, with a number each where COMPOSE_FILE names the scale file. What goes wrong is a file in `faults/`:
`daemon`, `compose` (the plugin is missing), `build`, `check` (its text is the answer of `gateway check`), `trial`
(the trial gateway is never ready), `up` (the gateway from the new image never is), `settings` (no gateway is while
.env matches its text), `start` (no created container starts) and `pull`; `orphans` has `run` give the advice of
docker-compose 1.29. While `slow-up` is there, `up` of anything but Redis does not end for a minute. A gateway answers a
HUP with another time of its last reload (`reloads/{id}`), unless it is `old` (its API does not know workers), has other
files (`stale`), stands still (`deaf`) or cannot be told (`unheard`).
With `refuse` it refuses the reload.
"""

import os
from pathlib import Path

SCRIPT = r"""#!/usr/bin/env bash
# A deployment calls this some fifty times, and other programs than the shell would take most of the time of the tests:
# files are read with its own means, and functions answer in REPLY or in an array.
set -euo pipefail
state=$FAKE_DOCKER
fault() { [[ -e $state/faults/$1 ]]; }
first_line() { REPLY=; [[ -e $1 ]] || return 1; read -r REPLY <"$1" || [[ -n $REPLY ]]; }
id_of() { first_line "$state/images/${1//\//_}"; }
show() { if first_line "$1"; then printf '%s\n' "$REPLY"; else return 1; fi; }
tag() { printf '%s\n' "$2" >"$state/images/${1//\//_}"; }
printf '%s\n' "${DOCKER_IMAGE_TAG:+[$DOCKER_IMAGE_TAG] }$*" >>"$state/calls"
images=(resilient-api-gateway resilient-api-gateway-stub)

# What Compose reads of .env and of its files.
read_settings() {
  local line
  tag=dev files=docker-compose.prod.yml want=1 compose_file=
  if [[ -e .env ]]; then
    while read -r line; do
      if [[ $line == *COMPOSE_FILE=docker-compose.prod.yml* ]]; then tag=latest; fi
      if [[ $line == COMPOSE_FILE=* ]]; then compose_file=${line#*=}; fi
    done <.env
  fi
  if [[ ${COMPOSE_FILE:-$compose_file} == *scale* ]]; then files+=,docker-compose.scale.yml want=3; fi
}
scaled() { [[ $files == *scale* ]]; }
services() { printf 'proxy-service\nredis\n'; if scaled; then echo nginx; fi; }
# Of a container: `SERVICE IMAGE FILES STATUS`.
fields() { read -r -a fields <"$state/containers/$1"; }
create() { echo "$2 $3 $files ${4:-running}" >"$state/containers/$1"; }
becomes() { fields "$1"; echo "${fields[*]:0:3} $2" >"$state/containers/$1"; }
exists() { [[ -e $state/containers/$1 ]]; }
gateways() {
  local each
  gateways=()
  for each in "$state"/containers/gw-*; do if [[ -e $each ]]; then gateways+=("${each##*/}"); fi; done
}
more_gateways() {
  local number=1 have id
  gateways
  have=${#gateways[@]}
  while ((have < $1)); do
    id=gw-$new
    if scaled; then id+=-$number; fi
    if ! exists "$id"; then create "$id" proxy-service "$new" "$2"; have=$((have + 1)); fi
    number=$((number + 1))
  done
}

compose() {
  local arguments=("$@") old
  case $1 in
    version) if fault compose; then return 1; fi; show "$state/version" ;;
    config)
      case ${2:-} in
        -q) ;;
        --services) services ;;
        *)
          printf '    image: redis:7.4-alpine\n    image: %s:%s\n' "${images[0]}" "$tag"
          if scaled; then printf '      replicas: 3\n'; fi ;;
      esac ;;
    build)
      if fault build; then exit 1; fi
      first_line "$state/source"
      for image in "${images[@]}"; do tag "$image:$DOCKER_IMAGE_TAG" "$REPLY"; done ;;
    run)
      if fault orphans; then echo "WARNING: Found orphan containers (x): use --remove-orphans" >&2; fi
      if [[ $* == *"gateway check"* ]]; then
        if fault check; then show "$state/faults/check"; exit 1; fi
        echo "ok: fine"
      else
        for ((i = 0; i < $#; i++)); do
          if [[ ${arguments[i]} == --name ]]; then create "${arguments[i + 1]}" one-off none; fi
        done
      fi ;;
    up)
      if [[ ${*: -1} == redis ]]; then return; fi
      # Not for ever: a test that failed leaves it there.
      for ((tries = 0; tries < 1000; tries++)); do if fault slow-up; then sleep 0.05; else break; fi; done
      # As Compose v2 does: to the next plain `up` it is another container.
      if [[ $* == *--no-deps* ]]; then files+=,alone; fi
      id_of "${images[0]}:$tag"
      new=$REPLY
      if [[ $* == *--no-start* ]]; then
        if [[ ${*: -1} == proxy-service ]]; then more_gateways "$want" created; fi
        if [[ ${*: -1} == nginx ]] && ! exists nginx; then create nginx nginx nginx created; fi
        return
      fi
      # A container with another image, or from other files, is replaced; so many stay as are wanted.
      gateways
      for old in "${gateways[@]}"; do
        fields "$old"
        if [[ ${fields[1]} != "$new" || ${fields[2]} != "$files" ]]; then
          echo "replaced $old" >>"$state/calls"
          rm "$state/containers/$old"
        fi
      done
      more_gateways "$want" running
      gateways
      for old in "${gateways[@]:want}"; do rm "$state/containers/$old"; done
      if scaled && [[ ${*: -1} == -d ]]; then create nginx nginx nginx; fi ;;
    ps)
      if [[ ${2:-} != -q ]]; then echo "the containers"; return; fi
      gateways
      if ((${#gateways[@]})); then printf '%s\n' "${gateways[@]}"; fi ;;
    rm) rm -f "$state"/containers/gw-* "$state/containers/nginx" ;;
    exec) echo PONG ;;
    logs) echo "the log lines that matter" ;;
    -p | -f) ;;
  esac
}

case $1 in
  version) if fault daemon; then echo "Cannot connect to the Docker daemon" >&2; exit 1; fi; echo 24.0.0 ;;
  compose) shift; read_settings; compose "$@" ;;
  image) id_of "${*: -1}"; printf '%s\n' "$REPLY" ;;
  tag) id_of "$2" || true; tag "$3" "${REPLY:-$2}" ;;
  rmi) rm -f "$state/images/$2" ;;
  pull) if fault pull; then exit 1; fi; tag "$2" pulled ;;
  ps)
    for each in "$state"/containers/*; do
      id=${each##*/}
      if [[ ! -e $each || $id == gateway-* ]]; then continue; fi
      fields "$id"
      if [[ $* == *service=* && $* != *"service=${fields[0]}"* ]]; then continue; fi
      if [[ " $* " == *" -a "* || ${fields[3]} == running ]]; then echo "$id"; fi
    done ;;
  port) show "$state/ports/$2" || true ;;
  restart | network) ;;
  start)
    if fault start; then exit 1; fi
    fields "$2"
    if [[ ${fields[3]} == created || ${fields[3]} == exited ]]; then becomes "$2" running; fi ;;
  stop)
    id=${*: -1}
    if exists "$id"; then
      fields "$id"
      if [[ ${fields[3]} == running ]]; then becomes "$id" exited; fi
    fi ;;
  rm) for id in "${@:2}"; do rm -f "$state/containers/$id"; done ;;
  logs) echo "the log lines of the trial" ;;
  inspect)
    id=${*: -1}
    exists "$id" || exit 1
    fields "$id"
    case $* in
      *Running*) if [[ ${fields[3]} == running ]]; then echo true; else echo false; fi ;;
      *RestartCount*) if [[ $id == gateway-trial-* ]] && fault trial; then echo "exited 0"; else echo "running 0"; fi ;;
      *config_files*) echo "${fields[2]}" ;;
      *compose.service*) echo "${fields[0]}" ;;
      *'{{.Image}}'*) echo "${fields[1]}" ;;
      *NetworkMode*) echo api-gateway_default ;;
      *Status*) echo "${fields[3]}" ;;
      *) echo "/gateway" ;;
    esac ;;
  exec)
    reloads=0
    if first_line "$state/reloads/$2"; then reloads=$REPLY; fi
    if [[ $* == *resilience/workers ]]; then
      if fault old; then exit 22; fi
      successful=true
      if ((reloads)) && fault refuse; then successful=false; fi
      printf '{"wanted":1,"lastReload":{"successful":%s,"time":"2026-11-29T00:00:0%d.000Z","problems":0}}\n' \
        "$successful" "$reloads"
    fi
    if [[ $* == *"kill -HUP 1" ]]; then
      if fault unheard; then exit 1; fi
      if ! fault deaf; then echo "$((reloads + 1))" >"$state/reloads/$2"; fi
    elif [[ $3 == sh ]]; then
      if fault stale; then echo "the old files"; else "${@:3}"; fi
    fi
    if [[ $* == *readyz* ]]; then
      first_line "$state/source"
      if fault up && [[ $2 == "gw-$REPLY"* ]]; then exit 22; fi
      if fault settings && [[ $2 != gateway-trial-* ]] && grep -qf "$state/faults/settings" .env; then exit 22; fi
    fi ;;
esac
"""


# The rules that are in force stand in `rules/{program}`. `no-firewall` among the faults: they cannot be changed.
# While `slow-firewall` is there, removing one does not end.
FIREWALL = r"""#!/usr/bin/env bash
set -euo pipefail
name=${0##*/} all=$*
rules=$FAKE_DOCKER/rules/$name
if [[ -e $FAKE_DOCKER/faults/no-firewall ]]; then exit 4; fi
if [[ $all == *" -I "* ]]; then
  printf '%s\n' "${all#* -I }" >>"$rules"
elif [[ $all == *" -D "* ]]; then
  grep -qxF -- "${all#* -D }" "$rules" 2>/dev/null || exit 1
  if [[ -e $FAKE_DOCKER/faults/slow-firewall ]]; then touch "$FAKE_DOCKER/removing"; fi
  while [[ -e $FAKE_DOCKER/faults/slow-firewall ]]; do sleep 0.05; done
  rm "$rules"
fi
printf '%s %s\n' "$name" "$all" >>"$FAKE_DOCKER/calls"
"""


class FakeDocker:
    """The directory of the fake, with its `docker`, `iptables` and `ip6tables` in `bin`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("bin", "images", "containers", "faults", "ports", "reloads", "rules"):
            (directory / name).mkdir(parents=True)
        program = directory / "bin/docker"
        program.write_text(SCRIPT, encoding="utf-8")
        program.chmod(0o755)
        # The gateway is asked through its published port: answered like everything else.
        curl = directory / "bin/curl"
        curl.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        curl.chmod(0o755)
        for name in ("iptables", "ip6tables"):
            firewall = directory / "bin" / name
            firewall.write_text(FIREWALL, encoding="utf-8")
            firewall.chmod(0o755)
        (directory / "calls").touch()
        (directory / "version").write_text("2.26.1\n", encoding="utf-8")
        self.tag("python:3.12.12-slim-bookworm", "base")
        self.tag("redis:7.4-alpine", "redis")
        self.source("one")

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{self.directory / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        return {"PATH": path, "HOME": str(self.directory), "FAKE_DOCKER": str(self.directory), **more}

    def source(self, image_id: str) -> None:
        """What the next build makes."""
        (self.directory / "source").write_text(image_id, encoding="utf-8")

    def tag(self, name: str, image_id: str) -> None:
        (self.directory / "images" / name).write_text(image_id + "\n", encoding="utf-8")

    def fault(self, name: str, text: str = "") -> None:
        (self.directory / "faults" / name).write_text(text, encoding="utf-8")

    def mend(self) -> None:
        for fault in (self.directory / "faults").iterdir():
            fault.unlink()

    def image(self, name: str) -> str | None:
        path = self.directory / "images" / name
        return path.read_text(encoding="utf-8").strip() if path.exists() else None

    def running(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "containers").iterdir())

    def rules(self) -> list[str]:
        """The rules of the firewalls that are in force."""
        return [line for path in (self.directory / "rules").iterdir() for line in path.read_text().splitlines()]

    def calls(self) -> list[str]:
        """What was called since the last time this was asked."""
        path = self.directory / "calls"
        found = path.read_text(encoding="utf-8").splitlines()
        path.write_text("", encoding="utf-8")
        return found

    def touched(self) -> list[str]:
        """The calls since the last time that change what runs."""
        changing = ("compose up", "compose rm", "restart ", "stop ", "start ", "tag ")
        return [
            call
            for call in self.calls()
            if call.startswith(changing) and not call.endswith(":candidate") and "gateway-trial-" not in call
        ]
