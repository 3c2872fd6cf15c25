#!/usr/bin/env bash
# Every system on both tasks on an open data set in MIMIC's layout, on a CPU: hours on two cores. Called again after an
# interruption it goes on where it was.
#   examples/run_open.sh DATA [WORK] [TASK...]      DATA holds mimic-iv/ and mimic-cxr-jpg/; both tasks if none is named
set -euo pipefail
data=${1:?folder that holds mimic-iv/ and mimic-cxr-jpg/}
work=${2:-open-work}
[ $# -gt 2 ] || set -- "$data" "$work" mortality phenotyping
models=attention,medfuse,ehr,cxr,trees,logistic,trees-film,logistic-film,early,joint,late,mmtm,daft,drfuse,contrastive,card
for task in "${@:3}"; do
  fusionctl run --task "$task" --preset small --models "$models" --set extract.sensitivity=open \
    --mimic-root "$data/mimic-iv" --cxr-root "$data/mimic-cxr-jpg" --work-dir "$work"
done
