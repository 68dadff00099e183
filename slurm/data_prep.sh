#!/usr/bin/env bash
# job=$(sbatch --parsable slurm/data_prep.sh INPUT... --out DIR [options of data_prep text])
# sbatch --array=0 --dependency=afterok:$job --kill-on-invalid-dep=yes slurm/data_prep.sh merge DIR
#
# An array task prepares a part. One that failed goes on where it stopped with the same line and --array=ITS_NUMBER.
#
# --- edit this block for your cluster ---------------------------------------
#SBATCH --job-name=data_prep
#SBATCH --array=0-15             # one task for each part
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8        # one worker for each
#SBATCH --mem-per-cpu=2G
#SBATCH --time=04:00:00
##SBATCH --account=YOUR_ACCOUNT
##SBATCH --partition=YOUR_PARTITION
#SBATCH --output=%x-%A-%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
num_parts=16                     # as in --array
# -----------------------------------------------------------------------------
set -euo pipefail

if [[ $# -eq 0 ]]; then
    echo "usage: sbatch slurm/data_prep.sh INPUT... --out DIR [options], or merge DIR" >&2
    exit 2
fi

# SLURM runs a spooled copy of this script, so paths start where sbatch was called.
cd "${SLURM_SUBMIT_DIR:?start this script with sbatch}"
export PATH="$PWD/.venv/bin:$PATH"
workers=${SLURM_CPUS_PER_TASK:-1}

if [[ $1 == merge ]]; then
    exec data_prep "$@" --num-workers "$workers"
fi
exec data_prep text "$@" --num-workers "$workers" --part "$SLURM_ARRAY_TASK_ID" --num-parts "$num_parts"
