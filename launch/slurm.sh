#!/usr/bin/env bash
# Train on several nodes of a Slurm cluster, one process per GPU.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/slurm.sh [--nodes=1] [--gpus=1] [--restarts=100] [--dry-run] [SBATCH...] -- FLAGS

Submits a job that runs `python -m optnet_jax.main --distributed FLAGS` on every GPU.
Submit from the repository, in the virtual environment, with the workdir in FLAGS on a
file system that all nodes see. Two minutes before the time limit, and on preemption,
the run saves and stops; the job then goes back to the queue and continues by itself,
also after a node or a process has died, at most --restarts times.

  --nodes=N   nodes
  --gpus=N    GPUs, and processes, per node
  SBATCH...   any other option goes to sbatch: --partition=gpu --time=12:00:00
  --dry-run   print the submission and what the job runs instead
END
}

fail() { echo "$0: $1; see --help" >&2 && exit 2; }
nodes=1 gpus=1 restarts=100 dry_run='' in_job='' sbatch=()
while (($#)); do
  option=$1 && shift
  case $option in
    --nodes=*) nodes=${option#*=} ;;
    --gpus=*) gpus=${option#*=} ;;
    --restarts=*) restarts=${option#*=} ;;
    --dry-run) dry_run=yes ;;
    --in-job) in_job=yes ;; # set by this script, in the job that it submits
    --help) usage && exit ;;
    --) break ;;
    *) sbatch+=("$option") ;;
  esac
done
# Before any arithmetic: Bash runs the commands that it finds in a "number".
above_0='^[1-9][0-9]{0,5}$' whole='^(0|[1-9][0-9]{0,5})$' count=${SLURM_RESTART_COUNT:-0}
[[ $nodes =~ $above_0 && $gpus =~ $above_0 ]] || fail "--nodes=$nodes --gpus=$gpus: no numbers"
[[ $restarts =~ $whole && $count =~ $whole ]] || fail "--restarts=$restarts is no number"
# A process that dies ends the others within half a minute, instead of after JAX's 100 s. Not
# at once: after a mistake all end by themselves with status 2, which must not become a kill's.
step=(srun --kill-on-bad-exit=0 --wait=30 python -m optnet_jax.main --distributed "$@")
submit=(sbatch --job-name=optnet_jax "--nodes=$nodes" "--ntasks-per-node=$gpus"
  "--gpus-per-node=$gpus" --requeue --open-mode=append --signal=TERM@120 "${sbatch[@]}"
  "$0" --in-job "--restarts=$restarts" -- "$@")

if [[ $dry_run ]]; then
  printf '%q ' "${submit[@]}" && printf '\n%q' "${step[0]}" && printf ' %q' "${step[@]:1}" && echo
elif [[ ! $in_job ]]; then
  "${submit[@]}"
else
  status=0 && "${step[@]}" || status=$?
  # Finished, or a mistake that would only be repeated.
  [[ $status != 0 && $status != 2 ]] || exit "$status"
  ((count < restarts)) || exit "$status"
  echo "status $status: back to the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
