#!/usr/bin/env bash
# All tables of the paper, from raw data: both tasks, with and without CLAHE, its baselines, ablation and losses, and
# robustness of models trained on clean and on noisy inputs. Weeks on one GPU; stopped or killed, the same command goes
# on where it was.
#
#   examples/run_paper.sh MIMIC_ROOT CXR_ROOT WORK_DIR
#
# Pages and tables end up in WORK_DIR/paper/TASK-[no-]clahe/. Environment: PRESET (paper), SEEDS of each model (1),
# TASKS and CLAHE, to do a part: TASKS=mortality CLAHE=no-clahe examples/run_paper.sh ...
set -euo pipefail
umask 077
if [ $# -ne 3 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
mimic_root=$1 cxr_root=$2 work=$3
preset=${PRESET:-paper} seeds=${SEEDS:-1}

# The last line that a command prints: the path of the artifact that it makes, or has made before; of report, its page.
printed() {
  fusionctl "$@" --work-dir "$work" --preset "$preset" | tail -n 1
}

# The id of that artifact.
made() {
  local path
  path=$(printed "$@") || return
  basename "$path"
}

# train MODEL FUSE_OPTIONS...: a model is called FUSION or FUSION+LOSS; every seed is a run of its own.
train() {
  local model=$1 seed loss=bce
  shift
  if [[ $model == *+* ]]; then
    loss=${model#*+}
  fi
  for ((seed = 0; seed < seeds; seed++)); do
    made fuse --fusion "${model%%+*}" --loss "$loss" --seed "$seed" "$@" >/dev/null
  done
}

for task in ${TASKS:-mortality phenotyping}; do
  for clahe in ${CLAHE:-no-clahe clahe}; do
    data=$(made preprocess --task "$task" "--$clahe" --mimic-root "$mimic_root" --cxr-root "$cxr_root")
    on=(--task "$task" --preprocess "$data")

    # Films are pretrained on the radiology labels for mortality, on the conditions for phenotyping (section V-A).
    film_task=radiology
    if [ "$task" = phenotyping ]; then
      film_task=phenotyping
    fi
    ehr=$(made pretrain-ehr "${on[@]}")
    cxr=$(made pretrain-cxr --task "$film_task" --preprocess "$data")

    # Tables 2, 3 and 4 (LSTM fusion is medfuse), Table 7 (with and without uncertainty), and two honest baselines.
    models=(attention attention+uncertainty medfuse card ehr cxr trees logistic)
    for model in "${models[@]}"; do
      case $model in
        ehr) encoders=(--pretrain-ehr "$ehr") ;;
        cxr) encoders=(--pretrain-cxr "$cxr") ;;
        trees | logistic) encoders=() ;;
        *) encoders=(--pretrain-ehr "$ehr" --pretrain-cxr "$cxr") ;;
      esac
      train "$model" "${on[@]}" "${encoders[@]}"
    done
    # Contrastive + ViT has a film encoder of its own.
    vit=$(made pretrain-cxr --task "$film_task" --preprocess "$data" --arch vit_b_16)
    train contrastive "${on[@]}" --pretrain-ehr "$ehr" --pretrain-cxr "$vit"
    models+=(contrastive)

    all=$(IFS=, && echo "${models[*]}")
    evaluated=$(made evaluate "${on[@]}" --models "$all" --compare "$all" --resamples 10000)

    # Table 6 and Figure 4: trained on clean inputs. Table 5: trained on noisy ones, each model at each level anew.
    trained=clean
    if [ "$clahe" = no-clahe ]; then
      trained=both
    fi
    robust=$(made robustness "${on[@]}" --models attention,medfuse --noise 0.1:0.6 --train-on "$trained")

    page=$(printed report "${on[@]}" --evaluate "$evaluated" --robustness "$robust" --format html,md,csv,latex)
    out=$work/paper/$task-$clahe
    mkdir -p "$out"
    cp "${page%/*}"/report.* "${page%/*}"/results.* "$out"
    echo "$out"
  done
done
