# shellcheck shell=bash
# What all jobs in this folder share: a change here holds for every one of them, also for jobs that wait.
# Written by: fusionctl export-slurm --out=examples/slurm --mimic-root=/data/mimic-iv-2.2 --cxr-root=/data/mimic-cxr-jpg-2.0.0 --work-dir=/scratch/me/fusionctl --partition=cpu --gpu-partition=gpu --account=my-project '--activate=source "$HOME/venv/bin/activate"' --gpus=a100:4 --nodes=2 '--stage-to=$TMPDIR'
# shellcheck source=/dev/null
source "$HOME/venv/bin/activate"
umask 077
export FUSIONCTL_WORK_DIR=/scratch/me/fusionctl
export FUSIONCTL_MIMIC_ROOT=/data/mimic-iv-2.2
export FUSIONCTL_CXR_ROOT=/data/mimic-cxr-jpg-2.0.0
export FUSIONCTL_STAGE_TO="${TMPDIR:?is not set on this node, and --stage-to asks for it}"
export MODELS=attention,ehr,cxr,trees
export NETWORKS=attention,ehr,cxr
export TASK=mortality
# Nodes that do not find each other: export GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, the name of their network.
export LAUNCHER=srun  # of several processes: srun or torchrun (which also wants --signal=B:USR1@120)
export MOST_RESTARTS=100  # a job that asks to be started again more often has something wrong with it
# shellcheck source=/dev/null
. "$SLURM_SUBMIT_DIR/steps.sh"
