# shellcheck shell=bash
# For gateways.sh, which sources it: new connections wait while the published port has no owner.
#
# Docker gives a port to one container at a time, so between two owners connections are refused. A rule of iptables drops
# the first packet of each new connection meanwhile. The client's kernel sends it again after 1 s, and 2 and 4 s later, and
# by then the new owner is there. Connections that are open go on. Whoever may not change the rules (not root, no iptables)
# deploys all the same, and connections are refused for that time.

# The longest that connections are made to wait, in seconds: after that the rule goes, whatever becomes of the deployment.
HOLD_SECONDS=${HOLD_SECONDS:-15}

# The rules live in a process of its own, which ends when its input does: with deploy.sh, however that ends.
hold_port() {
  local place
  release_port
  place=$(entrance)
  # A daemon elsewhere has its ports elsewhere.
  if [[ -z $place || ${DOCKER_HOST:-unix:} != unix:* ]]; then return 0; fi
  coproc holder { hold "${place##*:}"; }
  # Until the rules are there, or cannot be.
  read -r _ <&"${holder[0]}" || true
}

release_port() {
  local pid=${holder_PID:-} input=${holder[1]:-}
  if [[ -z $pid ]]; then return 0; fi
  # -1 once it is closed: an interrupt may have ended the wait below, and called this again.
  if [[ $input == [0-9]* ]]; then exec {input}>&-; fi
  wait "$pid" 2>/dev/null || true
}

# hold PORT: only packets to an address of this host, not those between containers.
hold() {
  local program programs=() rule
  trap '' INT TERM HUP
  rule=(-p tcp --dport "$1" --syn -m addrtype --dst-type LOCAL -m comment --comment api-gateway-deploy -j DROP)
  for program in iptables ip6tables; do
    # One that an earlier holder left behind, because it was killed.
    while "$program" -w 2 -t raw -D PREROUTING "${rule[@]}" 2>/dev/null; do :; done
    if "$program" -w 2 -t raw -I PREROUTING "${rule[@]}" 2>/dev/null; then programs+=("$program"); fi
  done
  echo held
  # Without rules, too: once this process has ended, bash forgets where its answer is to be read.
  read -r -t "$HOLD_SECONDS" _ || true
  for program in "${programs[@]}"; do "$program" -w 2 -t raw -D PREROUTING "${rule[@]}" 2>/dev/null || true; done
}
