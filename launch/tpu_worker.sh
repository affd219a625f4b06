#!/usr/bin/env bash
# Set up one worker of a TPU VM; launch/tpu_pod.sh setup runs this on all of them.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/tpu_worker.sh [--dry-run] HOST:/PATH

Installs this copy of optnet_jax for TPUs into its .venv, with a Python that is new
enough (the TPU image's is 3.10), and mounts the NFS export HOST:/PATH at /mnt/share.

  --dry-run  print the commands instead
END
}

run='' && [[ ${1-} != --dry-run ]] || { run='echo' && shift; }
[[ ${1---help} != --help ]] || { usage && exit; }
[[ $1 == ?*:/* ]] || { echo "$0: $1 is not HOST:/PATH; see --help" >&2 && exit 2; }
cd "$(dirname "$0")/.."

$run pip3 install --user uv
$run ~/.local/bin/uv venv --allow-existing --python 3.12 .venv
$run ~/.local/bin/uv pip install --python .venv/bin/python --editable '.[tpu]'
if ! mountpoint -q /mnt/share; then
  $run sudo apt-get install -y nfs-common
  $run sudo mkdir -p /mnt/share
  $run sudo mount "$1" /mnt/share
fi
