#!/usr/bin/env bash
# slurm/submit_array.sh [--dry-run] SCRIPT ARGUMENTS...
#
# Submits the parts of SCRIPT's work that are missing as an array, and a last job for when all of them are done.
# Prints the last job's number, for what is to come after it: pipeline submit --after, sbatch --dependency.
#
# SCRIPT is run here, and by SLURM, with one word before its ARGUMENTS:
#
#   missing   prints the numbers of the parts that are not done: 0,3,7
#   part      does part $SLURM_ARRAY_TASK_ID
#   last      brings the parts together
set -euo pipefail

submit() { sbatch --parsable "$@"; }
if [[ ${1-} == --dry-run ]]; then
    submit() { echo "sbatch $*" >&2 && echo JOB; }
    shift
fi
if [[ $# -lt 2 || ! -x $1 ]]; then
    echo "usage: slurm/submit_array.sh [--dry-run] SCRIPT ARGUMENTS..." >&2
    exit 2
fi
script=$1
shift

after=()
parts=$("$script" missing "$@")
if [[ -n $parts ]]; then
    job=$(submit --array="$parts" "$script" part "$@")
    echo "parts $parts: job $job" >&2
    after=(--dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes)
fi
submit --array=0 "${after[@]}" "$script" last "$@"
