#!/usr/bin/env bash
# One host of a run: start a command again until it has finished.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/keep_running.sh [--restarts=100] [--pause=10] [--lock=FILE] [--dry-run] -- COMMAND...

Runs COMMAND, and again whenever it fails, at most --restarts times, --pause seconds
apart. On every host of a run, this brings all back when one of them dies: the others
end with an error within minutes, and all meet again at the newest checkpoint.
Ends with COMMAND's status when that is 0 (finished) or 2 (a mistake in COMMAND), and
with 143 after SIGTERM or Ctrl-C, which is passed on so that COMMAND can save first.

  --lock=FILE  refuse to run twice with the same FILE, which holds the process id for as
               long: kill -TERM "$(cat FILE)" saves and stops
  --dry-run    print COMMAND instead
END
}

fail() { echo "$0: $1; see --help" >&2 && exit 2; }
restarts=100 pause=10 lock='' dry_run='' child='' stopping=''
while (($#)); do
  option=$1 && shift
  case $option in
    --restarts=*) restarts=${option#*=} ;;
    --pause=*) pause=${option#*=} ;;
    --lock=*) lock=${option#*=} ;;
    --dry-run) dry_run=yes ;;
    --help) usage && exit ;;
    --) break ;;
    *) fail "unknown option $option" ;;
  esac
done
# Before any arithmetic: Bash runs the commands that it finds in a "number".
[[ $restarts =~ ^(0|[1-9][0-9]{0,5})$ ]] || fail "--restarts=$restarts is no number"
[[ $pause =~ ^[0-9]{1,9}$ ]] || fail "--pause=$pause is no number of seconds"
(($#)) || fail "there is no COMMAND after --"
[[ ! $dry_run ]] || { printf '%q ' "$@" && echo && exit; }
if [[ $lock ]]; then
  exec 9>>"$lock"
  flock --nonblock 9 || { echo "$0: already running as $(<"$lock")" >&2 && exit 3; }
  echo $$ >"$lock" && trap ': >"$lock"' EXIT # then another process may get this id
fi
trap 'stopping=yes; [[ ! $child ]] || kill -TERM "$child" || true' TERM INT HUP USR1

for ((try = 1; ; try++)); do
  "$@" &
  child=$!
  [[ ! $stopping ]] || kill -TERM "$child" || true # told to stop while it started
  status=0 && wait "$child" || status=$?
  # A signal ends the wait, not yet the command.
  while kill -0 "$child" 2>/dev/null; do wait "$child" || status=$?; done
  child=''
  [[ ! $stopping ]] || exit 143
  [[ $status != 0 && $status != 2 && $try -le $restarts ]] || exit "$status"
  echo "$0: status $status; starting again ($try of $restarts)" >&2
  sleep "$pause" 9>&- & wait $! || true # in the background, so that SIGTERM ends it
  [[ ! $stopping ]] || exit 143
done
