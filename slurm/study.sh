#!/usr/bin/env bash
# slurm/submit_array.sh slurm/study.sh STUDY OUT
#
# Runs the study file STUDY in the folder OUT: each task of the array does a part of its runs, and a last job
# writes the report. A job whose time is up goes back into the queue, and on from there. What is done stays done:
# the same line again submits the parts that are missing.
#
# --- edit this block for your cluster ---------------------------------------
#SBATCH --job-name=study
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8        # as many runs at once, a core each
#SBATCH --mem-per-cpu=4G
#SBATCH --time=24:00:00
##SBATCH --account=YOUR_ACCOUNT
##SBATCH --partition=YOUR_PARTITION
#SBATCH --output=%x-%A-%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
num_parts=8
max_restarts=100
environment() {
    export PATH="$PWD/.venv/bin:$PATH"        # or: module load ..., conda activate ...
}
# -----------------------------------------------------------------------------
set -euo pipefail

if [[ $# -ne 3 ]]; then
    echo "usage: slurm/submit_array.sh slurm/study.sh STUDY OUT" >&2
    exit 2
fi
step=$1 study=$2 out=$3

# SLURM runs a spooled copy of this script, so paths start where it was submitted.
cd "${SLURM_SUBMIT_DIR:-.}"
environment

run() {
    local code=0
    pipeline study "$study" --out "$out" --jobs "$SLURM_CPUS_PER_TASK" "$@" || code=$?
    # A run has saved and stopped, checkpoint.save_before_s seconds before the job's time is up.
    if [[ $code -eq 75 && ${SLURM_RESTART_COUNT:-0} -lt $max_restarts ]]; then
        scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    fi
    exit "$code"
}

case $step in
missing) pipeline study "$study" --out "$out" --num-parts "$num_parts" --missing ;;
part) run --part "$SLURM_ARRAY_TASK_ID" --num-parts "$num_parts" ;;
last) run ;;
*) echo "$step: submit this with slurm/submit_array.sh" >&2 && exit 2 ;;
esac
