# shellcheck shell=bash
# How a job starts fusionctl. Every step can be run again: what is done is skipped, and training goes on from its
# checkpoint, so a requeued job is the same script from its beginning.
set -uo pipefail
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun does not take it from the job

# One process.
alone() {
  wait_for srun --nodes=1 --ntasks=1 fusionctl "$@"
  go_on_or_leave "$?"
}

# One process for each GPU of each node; they train one model together.
together() {
  local -a nodes
  mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  export MASTER_ADDR="${nodes[0]}" MASTER_PORT="$((20000 + SLURM_JOB_ID % 12000))"
  # The first process still writes when the others are done, so their end must not be its end.
  local launch=(srun --kill-on-bad-exit=0 --wait=0)
  if [ "$LAUNCHER" = torchrun ]; then # one a node, which starts the processes and passes the signal on
    export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 PET_SHUTDOWN_TIMEOUT=110
    launch+=(--ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1)
    launch+=(--cpus-per-task="$((SLURM_CPUS_PER_TASK * GPUS_PER_NODE))")
    launch+=(torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$GPUS_PER_NODE" --max-restarts=0)
    launch+=(--rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" --module)
  fi
  wait_for "${launch[@]}" fusionctl "$@"
  local code=$?
  unset MASTER_ADDR MASTER_PORT
  go_on_or_leave "$code"
}

# Run a step; a signal that Slurm sends to this script alone (--signal=B:...) is passed on. torchrun then ends with 1
# whatever its processes end with, so here it becomes what they say.
wait_for() {
  local stopped='' code=0
  "$@" &
  local step=$!
  trap 'stopped=1; kill -USR1 "$step" 2>/dev/null || true' USR1
  wait "$step" || code=$?
  while kill -0 "$step" 2>/dev/null; do # the signal ended the wait, not the step
    code=0
    wait "$step" || code=$?
  done
  trap - USR1
  if [ -n "$stopped" ] && [ "$code" -eq 1 ]; then
    return 75
  fi
  return "$code"
}

# 75: stopped by a signal, what was done is kept; 138: the signal came before there was anything to keep.
go_on_or_leave() {
  if [ "$1" -eq 0 ]; then
    return
  fi
  if { [ "$1" -eq 75 ] || [ "$1" -eq 138 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt "$MOST_RESTARTS" ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$1"
}
