#!/usr/bin/env bash
# Train on a Cloud TPU VM, from one host to a pod.
set -euo pipefail
usage() { cat <<'END'
usage: launch/tpu_pod.sh [--dry-run] COMMAND [FLAGS]
  create        make the TPU VM; its hosts are called workers
  setup         install the commit at HEAD on all workers, mount the share at /mnt/share
  data FLAGS    run `python -m optnet_jax.data.prepare FLAGS` on worker 0, once
  run FLAGS     train with FLAGS on all workers, on after this shell, again after a failure
  logs          follow worker 0
  stop          save and stop on all workers
  resume FLAGS  run again; if the TPU VM is gone (preempted), create and setup first
  delete        delete the TPU VM
  --dry-run     print the commands instead (resume: as if the TPU VM were gone)
Environment: TPU_NAME, TPU_ZONE, TPU_SHARE (data and workdir: HOST:/PATH or gs://BUCKET),
TPU_TYPE (v4-32), TPU_VERSION (tpu-ubuntu2204-base), TPU_OPTIONS (such as --spot).
Project and login are gcloud's: `gcloud auth login`, `gcloud config set project PROJECT`.
END
}
execute() { if [[ $dry_run ]]; then (PS4='' && set -x && : "$@") 2>&1 | cut -c 3-; else "$@"; fi; }
tpu() { execute gcloud compute tpus tpu-vm "$1" "$TPU_NAME" "--zone=$TPU_ZONE" "${@:2}"; }
on_all() { tpu ssh --worker=all "--command=$1"; }
create() {
  local type=${TPU_TYPE:-v4-32} version=${TPU_VERSION:-tpu-ubuntu2204-base}
  # shellcheck disable=SC2086 # TPU_OPTIONS is a list of words
  tpu create "--accelerator-type=$type" "--version=$version" ${TPU_OPTIONS-}
}
setup() { # in a folder that nobody can foresee; a dry run makes none
  tar=/tmp/optnet.XXXXXX/optnet.tar.gz
  [[ $dry_run ]] || { tar=$(mktemp -d)/optnet.tar.gz; trap 'rm -r "${tar%/*}"' EXIT; }
  execute git -C "$(dirname "$0")/.." archive --prefix=optnet/ -o "$tar" HEAD
  execute gcloud compute tpus tpu-vm scp "$tar" "$TPU_NAME:" "--zone=$TPU_ZONE" --worker=all
  on_all "tar -xzf optnet.tar.gz && optnet/launch/tpu_worker.sh $(printf %q "$TPU_SHARE")"
}
python='.venv/bin/python -m optnet_jax' # FLAGS are words of a second shell's
data() { tpu ssh --worker=0 "--command=cd optnet && $python.data.prepare$1"; }
run() {
  on_all "cd optnet && nohup launch/keep_running.sh --lock=run.lock -- \
$python.main --distributed$1 >>run.log 2>&1 </dev/null &"
}
dry_run='' && [[ ${1-} != --dry-run ]] || { dry_run=yes && shift; }
command=${1---help} && shift || true
[[ $command != --help ]] || { usage && exit; }
[[ ! $dry_run ]] || echo '# once: gcloud auth login; gcloud config set project PROJECT'
: "${TPU_NAME:?is not set, see --help}" "${TPU_ZONE:?is not set}" "${TPU_SHARE:?is not set}"
[[ $command != @(run|resume|data) || $# != 0 ]] || command+=' without FLAGS'
if [[ $command == resume ]]; then
  command=run
  [[ $dry_run ]] || state=$(tpu describe '--format=value(state)' 2>&1) || true
  case ${state-NOT_FOUND} in
    READY) ;;
    PREEMPTED | TERMINATED | STOPPED | *NOT_FOUND*)
      tpu delete --quiet || true # what is left of a preempted one
      create; setup ;;
    *) echo "$0: the TPU VM may be there: $state; wait, or delete it" >&2 && exit 1 ;;
  esac
fi
case $command in
  create | setup | data | run) "$command" "$(printf ' %q' "$@")" ;;
  logs) tpu ssh --worker=0 '--command=tail -n 100 -f optnet/run.log' ;;
  stop) on_all "cd optnet && { flock -n run.lock echo not running || kill \$(cat run.lock); }" ;;
  delete) tpu delete --quiet ;;
  *) echo "unknown command $command: see $0 --help" >&2 && exit 2 ;;
esac
