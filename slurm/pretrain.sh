#!/usr/bin/env bash
# sbatch slurm/pretrain.sh CONFIG [key=value ...]
#
# --- edit this block for your cluster ---------------------------------------
#SBATCH --job-name=pretrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1      # one task per GPU; on CPU one per node
##SBATCH --gpus-per-task=1
#SBATCH --time=01:00:00
##SBATCH --account=YOUR_ACCOUNT
##SBATCH --partition=YOUR_PARTITION
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
# -----------------------------------------------------------------------------
set -euo pipefail

if [[ $# -eq 0 ]]; then
    echo "usage: sbatch slurm/pretrain.sh CONFIG [key=value ...]" >&2
    exit 2
fi

# SLURM runs a spooled copy of this script, so paths start where sbatch was called.
cd "${SLURM_SUBMIT_DIR:?start this script with sbatch}"
export PATH="$PWD/.venv/bin:$PATH"

# Every task finds its rank and the rendezvous in the variables that srun sets.
srun --kill-on-bad-exit=1 python -m pipeline pretrain "$@"
