#!/usr/bin/env bash
# sbatch slurm/exclude_nodes.sh JOB NODES
#
# The job of a run that lost ranks on NODES submits this, and goes back into the queue on hold: SLURM lets a
# job's excluded nodes be changed only while it waits.
#
#SBATCH --job-name=exclude_nodes
#SBATCH --ntasks=1
#SBATCH --time=00:05:00
#SBATCH --open-mode=append
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: sbatch slurm/exclude_nodes.sh JOB NODES" >&2
    exit 2
fi
job=$1 nodes=$2

until [[ $(squeue --noheader --jobs="$job" --format=%T) == PENDING ]]; do
    sleep 1
done
scontrol update "JobId=$job" "ExcNodeList=$nodes" || echo "job $job goes on with $nodes after all" >&2
scontrol release "$job"
