"""A `docker` that starts nothing: it keeps image tags and containers in files, and notes every call.

The directory holds `calls` (one line each), `images/{name}` (an id each), `containers/{id}` (service, image,
Compose files, status), `ports/{id}` (what `docker port` says) and `version` (of Compose). Gateways are
`gw-{image}`, with a number each where COMPOSE_FILE names the scale file. What goes wrong is a file in `faults/`:
`daemon`, `compose` (the plugin is missing), `build`, `check` (its text is the answer of `gateway check`), `trial`
(the trial gateway is never ready), `up` (the gateway from the new image never is), `settings` (no gateway is while
.env matches its text), `start` (no created container starts)
and `pull`. `slow-up` makes `up` long enough to be
interrupted. A gateway answers a HUP with another time of its last reload (`reloads/{id}`), unless it is `old` (its API
does not know workers), has other files (`stale`), stands still (`deaf`) or cannot be told (`unheard`). With `refuse`
it refuses the reload.
"""

import os
from pathlib import Path

SCRIPT = r"""#!/usr/bin/env bash
set -euo pipefail
state=$FAKE_DOCKER
fault() { [[ -e $state/faults/$1 ]]; }
id_of() { cat "$state/images/${1//\//_}" 2>/dev/null; }
tag() { printf '%s\n' "$2" >"$state/images/${1//\//_}"; }
printf '%s\n' "${DOCKER_IMAGE_TAG:+[$DOCKER_IMAGE_TAG] }$*" >>"$state/calls"
images=(resilient-api-gateway resilient-api-gateway-stub)
if [[ $(cat .env 2>/dev/null) == *COMPOSE_FILE=docker-compose.prod.yml* ]]; then tag=latest; else tag=dev; fi

# Of a container: `SERVICE IMAGE FILES STATUS`.
scaled() { [[ ${COMPOSE_FILE:-$(sed -n 's/^COMPOSE_FILE=//p' .env | tail -n 1)} == *scale* ]]; }
if scaled; then
  files=docker-compose.prod.yml,docker-compose.scale.yml want=3
else
  files=docker-compose.prod.yml want=1
fi
services() { printf 'proxy-service\nredis\n'; if scaled; then echo nginx; fi; }
field() { cut -d ' ' -f "$2" "$state/containers/$1"; }
create() { echo "$2 $3 $files ${4:-running}" >"$state/containers/$1"; }
gateways() { for each in "$state"/containers/gw-*; do if [[ -e $each ]]; then basename "$each"; fi; done; }
more_gateways() {
  local number=1 have
  have=$(gateways | wc -l)
  while ((have < $1)); do
    id=gw-$new$(if scaled; then echo "-$number"; fi)
    if [[ ! -e $state/containers/$id ]]; then create "$id" proxy-service "$new" "$2"; have=$((have + 1)); fi
    number=$((number + 1))
  done
}

compose() {
  local arguments=("$@")
  case $1 in
    version) if fault compose; then return 1; fi; cat "$state/version" ;;
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
      for image in "${images[@]}"; do tag "$image:$DOCKER_IMAGE_TAG" "$(cat "$state/source")"; done ;;
    run)
      if [[ $* == *"gateway check"* ]]; then
        if fault check; then cat "$state/faults/check"; exit 1; fi
        echo "ok: fine"
      else
        for ((i = 0; i < $#; i++)); do
          if [[ ${arguments[i]} == --name ]]; then create "${arguments[i + 1]}" one-off none; fi
        done
      fi ;;
    up)
      if fault slow-up; then sleep 3; fi
      if [[ ${*: -1} == redis ]]; then return; fi
      # As Compose v2 does: to the next plain `up` it is another container.
      if [[ $* == *--no-deps* ]]; then files+=,alone; fi
      new=$(id_of "${images[0]}:$tag")
      if [[ $* == *--no-start* ]]; then
        if [[ ${*: -1} == proxy-service ]]; then more_gateways "$want" created; fi
        if [[ ${*: -1} == nginx && ! -e $state/containers/nginx ]]; then create nginx nginx nginx created; fi
        return
      fi
      # A container with another image, or from other files, is replaced; so many stay as are wanted.
      for old in $(gateways); do
        if [[ $(field "$old" 2) != "$new" || $(field "$old" 3) != "$files" ]]; then
          echo "replaced $old" >>"$state/calls"
          rm "$state/containers/$old"
        fi
      done
      more_gateways "$want" running
      for old in $(gateways | tail -n "+$((want + 1))"); do rm "$state/containers/$old"; done
      if scaled && [[ ${*: -1} == -d ]]; then create nginx nginx nginx; fi ;;
    ps)
      if [[ ${2:-} == -q ]]; then gateways; else echo "the containers"; fi ;;
    rm) rm -f "$state"/containers/gw-* "$state/containers/nginx" ;;
    exec) echo PONG ;;
    logs) echo "the log lines that matter" ;;
    -p | -f) ;;
  esac
}

case $1 in
  version) if fault daemon; then echo "Cannot connect to the Docker daemon" >&2; exit 1; fi; echo 24.0.0 ;;
  compose) shift; compose "$@" ;;
  image) id_of "${*: -1}" ;;
  tag) from=$(id_of "$2" || true); tag "$3" "${from:-$2}" ;;
  rmi) rm -f "$state/images/$2" ;;
  pull) if fault pull; then exit 1; fi; tag "$2" pulled ;;
  ps)
    for each in "$state"/containers/*; do
      id=$(basename "$each")
      if [[ ! -e $each || $id == gateway-* ]]; then continue; fi
      if [[ $* == *service=* && $* != *"service=$(field "$id" 1)"* ]]; then continue; fi
      if [[ " $* " == *" -a "* || $(field "$id" 4) == running ]]; then echo "$id"; fi
    done ;;
  port) cat "$state/ports/$2" 2>/dev/null || true ;;
  restart | network) ;;
  start) if fault start; then exit 1; fi; sed -i 's/\(created\|exited\)$/running/' "$state/containers/$2" ;;
  stop) if [[ -e $state/containers/${*: -1} ]]; then sed -i 's/running$/exited/' "$state/containers/${*: -1}"; fi ;;
  rm) for id in "${@:2}"; do rm -f "$state/containers/$id"; done ;;
  logs) echo "the log lines of the trial" ;;
  inspect)
    id=${*: -1}
    [[ -e $state/containers/$id ]] || exit 1
    case $* in
      *Running*) if [[ $(field "$id" 4) == running ]]; then echo true; else echo false; fi ;;
      *RestartCount*) if [[ $id == gateway-trial-* ]] && fault trial; then echo "exited 0"; else echo "running 0"; fi ;;
      *config_files*) field "$id" 3 ;;
      *compose.service*) field "$id" 1 ;;
      *'{{.Image}}'*) field "$id" 2 ;;
      *NetworkMode*) echo api-gateway_default ;;
      *Status*) field "$id" 4 ;;
      *) echo "/gateway" ;;
    esac ;;
  exec)
    if [[ $* == *resilience/workers ]]; then
      if fault old; then exit 22; fi
      time=$(cat "$state/reloads/$2" 2>/dev/null || echo 0)
      successful=true
      if ((time)) && fault refuse; then successful=false; fi
      printf '{"wanted":1,"lastReload":{"successful":%s,"time":"2026-11-29T00:00:0%d.000Z","problems":0}}\n' \
        "$successful" "$time"
    fi
    if [[ $* == *"kill -HUP 1" ]]; then
      if fault unheard; then exit 1; fi
      if ! fault deaf; then echo "$(($(cat "$state/reloads/$2" 2>/dev/null || echo 0) + 1))" >"$state/reloads/$2"; fi
    elif [[ $3 == sh ]]; then
      if fault stale; then echo "the old files"; else "${@:3}"; fi
    fi
    if [[ $* == *readyz* && -e $state/faults/up && $2 == "gw-$(cat "$state/source")"* ]]; then exit 22; fi
    if [[ $* == *readyz* && -e $state/faults/settings ]] && grep -qf "$state/faults/settings" .env; then
      [[ $2 == gateway-trial-* ]] || exit 22
    fi ;;
esac
"""


class FakeDocker:
    """The directory of the fake, and its `docker` in `bin`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("bin", "images", "containers", "faults", "ports", "reloads"):
            (directory / name).mkdir(parents=True)
        program = directory / "bin/docker"
        program.write_text(SCRIPT, encoding="utf-8")
        program.chmod(0o755)
        # The gateway is asked through its published port: answered like everything else.
        curl = directory / "bin/curl"
        curl.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        curl.chmod(0o755)
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
