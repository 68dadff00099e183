#!/usr/bin/env bash
# sbatch slurm/pretrain.sh CONFIG [key=value ...]
#
# Trains on the nodes of the job. When its time is up, a node fails or the job is preempted, SLURM starts it
# again, and the run goes on from its newest checkpoint.
#
# --- edit this block for your cluster ---------------------------------------
#SBATCH --job-name=pretrain
#SBATCH --nodes=2
##SBATCH --gpus-per-node=1       # a rank for each; on CPUs a node has one, or RANKS_PER_NODE
#SBATCH --cpus-per-task=8        # cores of a rank
#SBATCH --mincpus=8              # cores of a node; not --ntasks-per-node, with which --nodes=1-4 would mean 1
#SBATCH --time=24:00:00
##SBATCH --account=YOUR_ACCOUNT
##SBATCH --partition=YOUR_PARTITION
#SBATCH --signal=B:USR2@300      # seconds before the time is up in which a checkpoint must be written
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log       # its first lines; the rest goes below the run's folder
max_restarts=100
environment() {
    export PATH="$PWD/.venv/bin:$PATH"        # or: module load ..., conda activate ...
    # export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0
}
container=()                                  # container=(apptainer exec --nv --bind "$PWD" IMAGE.sif)
container_options=()                          # with Enroot: (--container-image=IMAGE --container-mounts="$PWD")
# -----------------------------------------------------------------------------
set -euo pipefail

if [[ $# -eq 0 || -z ${SLURM_SUBMIT_DIR-} ]]; then
    echo "usage: sbatch slurm/pretrain.sh CONFIG [key=value ...]" >&2
    exit 2
fi

# SLURM runs a spooled copy of this script, so paths start where sbatch was called.
cd "$SLURM_SUBMIT_DIR"
environment
ranks_per_node=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
cpus_per_rank=$((SLURM_CPUS_ON_NODE / ranks_per_node))
export OMP_NUM_THREADS=$cpus_per_rank

log=$(pipeline slurm begin "$@")
exec >>"$log" 2>&1

# The ranks save and stop checkpoint.save_before_s seconds before this, which older SLURMs do not say.
end=$(SLURM_TIME_FORMAT=standard squeue --noheader --jobs="$SLURM_JOB_ID" --format=%e || true)
if [[ -z ${SLURM_JOB_END_TIME-} && $end == 20*T* ]]; then
    SLURM_JOB_END_TIME=$(date --date="$end" +%s)
    export SLURM_JOB_END_TIME
fi

# Every task finds its rank and the rendezvous in the variables that srun sets. When one is lost the others notice
# and end; when all are told to stop they end one by one. So those that are left have a moment before srun kills them.
srun --ntasks=$((SLURM_JOB_NUM_NODES * ranks_per_node)) --ntasks-per-node="$ranks_per_node" \
    --cpus-per-task="$cpus_per_rank" --kill-on-bad-exit=0 --wait=30 \
    "${container_options[@]}" "${container[@]}" python -m pipeline pretrain "$@" &
ranks=$!
trap 'kill -USR2 "$ranks" 2>/dev/null || true' USR2 TERM   # srun passes it on; the ranks save and stop
while kill -0 "$ranks" 2>/dev/null; do
    wait "$ranks" || true                      # a signal ends it early
done
code=0
wait "$ranks" || code=$?
trap - USR2 TERM

pipeline slurm end "$@" --exit-code "$code" --max-restarts "$max_restarts"
