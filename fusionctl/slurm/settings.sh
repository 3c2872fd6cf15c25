# shellcheck shell=bash
# What all jobs in this folder share: a change here holds for every one of them, also for jobs that wait.
# Written by: @@command@@
@@activate@@
umask 077
@@exports@@
export TASK=@@task@@
# Nodes that do not find each other: export GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, the name of their network.
export LAUNCHER=@@launcher@@  # of several processes: srun or torchrun (which also wants --signal=B:USR1@120)
export MOST_RESTARTS=100  # a job that asks to be started again more often has something wrong with it
# shellcheck source=/dev/null
. "$SLURM_SUBMIT_DIR/steps.sh"
