"""The uncertainty loss, label by label: each model with it and without it, and the sigma that it learned (Table 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fusionctl.evaluation_comparisons import Contrasts
from fusionctl.evaluation_models import Models
from fusionctl.model_name import parts

METRICS = ("auroc", "auprc")
LOSSES = ("uncertainty", "uncertainty-reference")


def sigmas_of(names: Sequence[str], found: Sequence[Mapping[str, float] | None]) -> dict[str, dict[str, float]]:
    """The learned sigma of each label by model; of a seed group the geometric mean, as what is learned is log sigma^2.

    Args:
        names: (A,) name of each artifact's model.
        found: (A,) its sigmas by label; None where its loss learns none.
    """
    by_model: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(names):
        own = [s for other, s in zip(names, found, strict=True) if other == name and s]
        if own:
            by_model[name] = {label: math.exp(sum(math.log(s[label]) for s in own) / len(own)) for label in own[0]}
    return by_model


def table(
    subset: Mapping[str, Any],
    contrasts: Contrasts,
    models: Models,
    sigmas: Mapping[str, Mapping[str, float]],
) -> list[dict[str, Any]]:
    """One row a label of every fusion that is there with cross-entropy and with an uncertainty loss.

    Args:
        subset: the entry `all` of the evaluation's subsets.
        contrasts: the differences on that subset.
        models: which models there are.
        sigmas: from `sigmas_of`.

    Returns:
        `{label, prevalence, positives, fusion, loss, bce, uncertainty, difference, sigma}`, smallest sigma first;
        `difference` is with the uncertainty loss minus without, its p_holm corrected over the labels.
    """
    rows = []
    for name in models.own:
        fusion, loss = parts(name)
        if loss not in LOSSES or fusion not in models.names or name not in sigmas:
            continue
        positions = models.index(name), models.index(fusion)
        if not set(positions) <= set(contrasts.complete):
            continue
        differences = contrasts.of(*positions)["labels"]
        for label, difference in differences.items():
            values = [subset["models"][m]["labels"][label]["metrics"] for m in (fusion, name)]
            without, with_it = ({metric: entry[metric]["value"] for metric in METRICS} for entry in values)
            rows.append(
                {
                    "label": label,
                    "prevalence": subset["prevalence"][label],
                    "positives": subset["positives"][label],
                    "fusion": fusion,
                    "loss": loss,
                    "bce": without,
                    "uncertainty": with_it,
                    "difference": {metric: difference[metric] for metric in METRICS},
                    "sigma": sigmas[name][label],
                }
            )
    return sorted(rows, key=lambda row: (row["fusion"], row["loss"], row["sigma"]))
