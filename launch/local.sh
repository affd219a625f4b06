#!/usr/bin/env bash
# Several processes on this machine train one network: a pod in miniature.
set -euo pipefail
usage() {
  cat <<'END'
usage: launch/local.sh [--processes=2] [--restarts=3] [--port=PORT] [--dry-run] -- FLAGS

Runs `python -m optnet_jax.main FLAGS` in several processes that train together. When
one dies all are ended and started again from the newest checkpoint, at most --restarts
times. What a person must mend (status 2) is not repeated. Ctrl-C and the like are
passed on: the processes save and stop (status 143).

  --processes=N  each has D CPUs by XLA_FLAGS=--xla_force_host_platform_device_count=D
  --port=PORT    where they meet on 127.0.0.1; a free one by default
  --dry-run      print the commands instead
END
}
fail() { echo "$0: $1; see --help" >&2 && exit 2; }
processes=2 restarts=3 port='' dry_run='' stopping=''
while (($#)); do
  option=$1 && shift
  case $option in
    --processes=*) processes=${option#*=} ;;
    --restarts=*) restarts=${option#*=} ;;
    --port=*) port=${option#*=} ;;
    --dry-run) dry_run=yes ;;
    --help) usage && exit ;;
    --) break ;;
    *) fail "unknown option $option" ;;
  esac
done
# Before any arithmetic: Bash runs the commands that it finds in a "number".
[[ $processes =~ ^[1-9][0-9]{0,3}$ ]] || fail "--processes=$processes is no number above 0"
[[ $restarts =~ ^(0|[1-9][0-9]{0,5})$ ]] || fail "--restarts=$restarts is no number"
free_port='from socket import *; s = create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
signal_all() { jobs -rp | xargs -r kill "$1" 2>/dev/null || true; }
trap 'stopping=yes; signal_all -TERM' TERM INT HUP USR1

run_all() { # Its status is 0 when all have finished, 2 after a mistake, else the first other.
  local status=0 started=() address=127.0.0.1:${port:-$(python -c "$free_port")}
  for ((i = 0; i < processes; i++)); do
    command=(python -m optnet_jax.main "$@" "--coordinator_address=$address"
      "--num_processes=$processes" "--process_id=$i")
    if [[ $dry_run ]]; then printf "%q " "${command[@]}" && echo && continue; fi
    "${command[@]}" & started+=("$!")
  done && { [[ ! $stopping ]] || signal_all -TERM; } # told to stop while they started
  while [[ $status == 0 && $(jobs -p) ]]; do wait -n || status=$?; done
  if [[ $status != 0 && ! $stopping ]]; then # the others get a moment to say why
    for _ in {1..30}; do [[ ! $(jobs -rp) ]] || sleep 0.1; done && signal_all -KILL
  fi
  for process in "${started[@]}"; do wait "$process" || [[ $? != 2 ]] || status=2; done
  until wait; do :; done # a signal ends the wait before the processes have ended
  return "$status"
}
for ((try = 1; ; try++)); do
  status=0 && run_all "$@" || status=$?
  [[ ! $stopping ]] || exit 143
  [[ $status != 0 && $status != 2 && $try -le $restarts ]] || exit "$status"
  echo "$0: a process ended with status $status; starting all again ($try of $restarts)" >&2
done
