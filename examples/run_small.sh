#!/usr/bin/env bash
# The whole pipeline on a machine without a GPU: encoders once, four models, evaluation, noise sweep, report.
#
#   examples/run_small.sh MIMIC_ROOT CXR_ROOT WORK_DIR [more options of fusionctl run]
#
# Stopped or killed, the same command goes on where it was.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
mimic_root=$1 cxr_root=$2 work_dir=$3
shift 3
exec fusionctl run --preset small --mimic-root "$mimic_root" --cxr-root "$cxr_root" --work-dir "$work_dir" \
  --noise 0.1:0.6 "$@"
