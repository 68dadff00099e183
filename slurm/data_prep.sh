#!/usr/bin/env bash
# slurm/submit_array.sh slurm/data_prep.sh OUT INPUT... [options of data_prep text]
#
# Prepares the shards OUT: each task of the array does a part, and a last job merges them. What is done stays
# done: the same line again submits the parts that are missing.
#
# --- edit this block for your cluster ---------------------------------------
#SBATCH --job-name=data_prep
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8        # one worker for each
#SBATCH --mem-per-cpu=2G
#SBATCH --time=04:00:00
##SBATCH --account=YOUR_ACCOUNT
##SBATCH --partition=YOUR_PARTITION
#SBATCH --output=%x-%A-%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
num_parts=16
environment() {
    export PATH="$PWD/.venv/bin:$PATH"        # or: module load ..., conda activate ...
}
# -----------------------------------------------------------------------------
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: slurm/submit_array.sh slurm/data_prep.sh OUT INPUT... [options of data_prep text]" >&2
    exit 2
fi
step=$1 out=$2
shift 2

# SLURM runs a spooled copy of this script, so paths start where it was submitted.
cd "${SLURM_SUBMIT_DIR:-.}"
environment

case $step in
missing) data_prep missing "$out" --num-parts "$num_parts" ;;
part) data_prep text "$@" --out "$out" --num-workers "$SLURM_CPUS_PER_TASK" \
    --part "$SLURM_ARRAY_TASK_ID" --num-parts "$num_parts" ;;
last) data_prep merge "$out" --num-workers "$SLURM_CPUS_PER_TASK" ;;
*) echo "$step: submit this with slurm/submit_array.sh" >&2 && exit 2 ;;
esac
