#!/usr/bin/env bash
# Submit all jobs, each after those whose results it reads. It may be run again at any time: what is done is skipped.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")"
umask 077 # logs are Slurm's, and as closed as the shell that submits
mkdir -p logs

# submit SCRIPT [JOBS]: print the job's number; JOBS must have succeeded before, numbers separated by colons.
submit() {
  local id
  id=$(sbatch --parsable --kill-on-invalid-dep=yes ${2:+"--dependency=afterok:$2"} "$1")
  echo "$1: job ${id%%;*}" >&2
  echo "${id%%;*}"
}

after=$(submit 10-extract.sbatch)
after=$(submit 20-films.sbatch "$after")
after=$(submit 30-preprocess.sbatch "$after")
encoders=$after
encoders=$encoders:$(submit 40-pretrain-ehr.sbatch "$after")
encoders=$encoders:$(submit 50-pretrain-cxr.sbatch "$after")
after=$(submit 60-fuse.sbatch "$encoders")
after=$(submit 70-robustness.sbatch "$after")
submit 80-report.sbatch "$after" >/dev/null
