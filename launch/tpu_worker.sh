#!/usr/bin/env bash
# Set up one worker of a TPU VM; launch/tpu_pod.sh setup runs this on all of them.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/tpu_worker.sh [--dry-run] SHARE

Installs this copy of optnet_jax for TPUs into its .venv, with a Python that is new
enough (the TPU image's is 3.10), and mounts SHARE at /mnt/share: an NFS export,
HOST:/PATH, or a bucket, gs://BUCKET, by Cloud Storage FUSE.

  --dry-run  print the commands instead
END
}

run='' && [[ ${1-} != --dry-run ]] || { run='echo' && shift; }
[[ ${1---help} != --help ]] || { usage && exit; }
[[ $1 == ?*:/* && $1 != gs://*/* && $1 != gs:// ]] || {
  echo "$0: $1 is neither HOST:/PATH nor gs://BUCKET; see --help" >&2 && exit 2
}
cd "$(dirname "$0")/.."

$run pip3 install --user uv
$run ~/.local/bin/uv venv --allow-existing --python 3.12 .venv
$run ~/.local/bin/uv pip install --python .venv/bin/python --editable '.[tpu]'
mountpoint -q /mnt/share && exit
$run sudo mkdir -p /mnt/share
if [[ $1 != gs://* ]]; then
  $run sudo apt-get install -y nfs-common
  $run sudo mount "$1" /mnt/share
  exit
fi
if ! command -v gcsfuse >/dev/null; then
  google=https://packages.cloud.google.com/apt key=/usr/share/keyrings/cloud.google.asc
  $run sudo curl -fsSo $key $google/doc/apt-key.gpg
  list="deb [signed-by=$key] $google gcsfuse-$(lsb_release -cs) main"
  $run sudo sh -c "echo '$list' >/etc/apt/sources.list.d/gcsfuse.list"
  $run sudo apt-get update
  $run sudo apt-get install -y gcsfuse
fi
$run sudo chown "$(id -u)" /mnt/share
# Without a cache of names: a worker sees at once what another has written.
$run gcsfuse --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 \
  "${1#gs://}" /mnt/share
