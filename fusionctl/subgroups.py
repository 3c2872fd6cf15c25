"""Models by groups of patients: who they are, where they lay, how their stay was coded, whether there is a film.

A group's interval, and the test of the gap between groups, comes from the very resamples of all patients: in each of
them a group is what was drawn of it, so a patient with stays in two groups counts in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusionctl import metrics
from fusionctl.comparisons import holm
from fusionctl.data.phenotypes import ERAS, era_of
from fusionctl.disclosure import SMALLEST_COUNT, small
from fusionctl.evaluation_models import Floats, Models, Predictions
from fusionctl.intervals import Method

METRICS = ("auroc", "auprc")
TESTED = "auroc"  # AUPRC differs wherever the outcome's frequency does
# First age of each band, in years at admission; MIMIC-IV gives ages above 89 as 91, so nothing older is told apart.
AGE_BANDS = {18: "18-44", 45: "45-64", 65: "65-79", 80: "80+"}
# MIMIC-IV admissions.race (ethnicity in v1.0) has some thirty values; their first words say to which of the groups of
# OMB Statistical Policy Directive 15 (1997) they belong. What stands on no line here is OTHER.
RACES = {
    "WHITE": ("WHITE", "PORTUGUESE"),
    "BLACK": ("BLACK",),
    "HISPANIC": ("HISPANIC", "SOUTH AMERICAN"),
    "ASIAN": ("ASIAN",),
    "UNKNOWN": ("UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED"),
}
UNKNOWN, OTHER, NOT_CODED = "UNKNOWN", "OTHER", "not coded"
Groups = dict[str, NDArray[np.str_]]


def groups_of(stay_ids: NDArray[np.int64], samples: pl.DataFrame, diagnoses: pl.DataFrame) -> Groups:
    """The group of every stay, by what it is grouped.

    Args:
        stay_ids: (N,) stays, all of them in `samples`.
        samples: of preprocess: stay_id, hadm_id, sex, age, race, care_unit, film.
        diagnoses: of extract: hadm_id, icd_version.

    Returns:
        (N,) names of groups by `sex`, `age`, `race`, `care_unit`, `era` and `film`. The era is that of
        `data.phenotypes.era_of`.
    """
    era = era_of(diagnoses).with_columns(pl.col("era").replace_strict(ERAS))
    stays = pl.DataFrame({"stay_id": stay_ids}).join(samples, on="stay_id", how="left", maintain_order="left")
    stays = stays.join(era, on="hadm_id", how="left", maintain_order="left")
    # -1, of who is too young for the first band or has no age, takes the last name of the list.
    band = np.searchsorted(list(AGE_BANDS), stays["age"].fill_nan(0).fill_null(0).to_numpy(), side="right") - 1
    named = stays.select(
        sex=pl.col("sex").replace("", None).fill_null(UNKNOWN),
        age=pl.Series([[*AGE_BANDS.values(), UNKNOWN][i] for i in band.tolist()]),
        race=pl.col("race").fill_null("").map_elements(race_group, return_dtype=pl.String),
        care_unit=pl.col("care_unit").replace("", None).fill_null(UNKNOWN),
        era=pl.col("era").fill_null(NOT_CODED),
        film=pl.when(pl.col("film") >= 0).then(pl.lit("with a film")).otherwise(pl.lit("without a film")),
    )
    return {by: named[by].to_numpy().astype(np.str_) for by in named.columns}


def race_group(race: str) -> str:
    """Which group of RACES a value of `race` belongs to; of an empty one UNKNOWN."""
    text = race.strip().upper() or UNKNOWN
    return next((group for group, starts in RACES.items() if text.startswith(starts)), OTHER)


def evaluate(
    test: Predictions,
    models: Models,
    groups: Mapping[str, NDArray[np.str_]],
    *,
    resamples: int,
    seed: int | tuple[int, ...],
    method: Method = "percentile",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Metrics (mean over labels) of every group, and the gap between the best and the worst group.

    Args:
        test: the stays.
        models: which rows of the predictions are which model; of a seed group its ensemble is taken.
        groups: from `groups_of`.
        resamples, seed, method: as of `metrics.bootstrap` and `Bootstrap.interval`.
        progress: called with (done, total) after each group.

    Returns:
        `{by, group, n, patients, positives, hidden, models, note}` by group, and `{by, model, metric, largest,
        smallest, gap: {value, p, p_holm}}`. A group of fewer than 10 patients has no count and no metric. A gap has no
        interval: its two groups are chosen by the data, so it is above 0 by chance alone. That of AUROC has the p of
        `gap_p`, corrected over the groupings of a model; that of AUPRC has none.
    """
    shown = {name: models.shown[models.index(name)] for name in models.own}
    pairs = [(by, str(group)) for by, of_stay in groups.items() for group in np.unique(of_stay)]
    found, gaps = [], []
    boots: dict[tuple[str, str], metrics.Bootstrap] = {}
    for done, (by, group) in enumerate(pairs, start=1):
        member = groups[by] == group
        entry = {"by": by, "group": group, **_counts(test.of(member))}
        if not entry["hidden"]:
            # The others' labels are made unknown instead of leaving the stays out, so that the draws are the same.
            labels = np.where(member[:, None], test.labels, np.nan)
            stack = test.probabilities[list(shown.values())]
            boot = metrics.bootstrap(labels, stack, test.subject_id, resamples=resamples, seed=seed)
            entry["models"] = {name: _both(boot.interval(m, method=method)) for m, name in enumerate(shown)}
            if group not in (UNKNOWN, NOT_CODED) and _comparable(labels, test.labels):
                boots[by, group] = boot
        found.append(entry)
        if progress:
            progress(done, len(pairs))
    for by in groups:
        of_by = {group: boot for (other, group), boot in boots.items() if other == by}
        gaps += [gap for m, name in enumerate(shown) for gap in _gaps(by, name, m, of_by)]
    for name in shown:
        family = [gap["gap"] for gap in gaps if gap["model"] == name and gap["metric"] == TESTED]
        for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
            entry["p_holm"] = p
    return found, gaps


def _counts(part: Predictions) -> dict[str, Any]:
    patients = len(np.unique(part.subject_id))
    if small(patients):
        return {"n": None, "patients": None, "positives": None, "hidden": True, "models": {}, "note": None}
    positives = (part.labels > 0).sum(axis=0)
    negatives = (~np.isnan(part.labels)).sum(axis=0) - positives
    few = int((np.minimum(positives, negatives) < SMALLEST_COUNT).sum())
    said = (
        f"{few} of {len(positives)} labels have fewer than {SMALLEST_COUNT} stays with or without: interval too narrow"
    )
    return {
        "n": len(part.labels),
        "patients": patients,
        "positives": dict(zip(part.label_names, positives.tolist(), strict=True)),
        "hidden": False,
        "note": said if few else None,
    }


def _comparable(labels: Floats, every: Floats) -> bool:
    """Whether a group's metric may stand in a gap.

    Its mean must be over the same labels as everyone's, and rest on enough outcomes: of 3 deaths the bootstrap, which
    can only draw those 3, gives an interval that is far too narrow.
    """
    both = _has_both(every)
    enough = min((labels > 0).sum(), (labels == 0).sum()) >= SMALLEST_COUNT
    return bool(both.any() and enough and _has_both(labels)[both].all())


def _has_both(labels: Floats) -> NDArray[np.bool_]:
    """(K,) which labels of (N, K) have both classes."""
    return np.asarray((labels > 0).any(axis=0) & (labels == 0).any(axis=0))


def _both(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {metric: summary[metric] for metric in METRICS}


def _gaps(by: str, name: str, m: int, boots: Mapping[str, metrics.Bootstrap]) -> list[dict[str, Any]]:
    """The gap of one model in each metric; none where fewer than two groups have a value."""
    gaps = []
    for metric in METRICS:
        values = {g: _column(boot, m, metric) for g, boot in boots.items()}
        ranked = sorted((g for g in values if not np.isnan(values[g][0])), key=lambda g: -values[g][0])
        if len(ranked) > 1:
            columns = np.stack([values[g] for g in ranked])
            gap = {"value": float(columns[0, 0] - columns[-1, 0])}
            if metric == TESTED:
                gap["p"] = gap_p(columns[:, 0], columns[:, 1:])
            where = {"by": by, "model": name, "metric": metric}
            gaps.append({**where, "largest": ranked[0], "smallest": ranked[-1], "gap": gap})
    return gaps


def gap_p(values: Floats, draws: Floats) -> float:
    """p of "all groups have the same value", against which the best and the worst may be chosen after the fact.

    Each resample's deviations from the groups' values are what chance does to groups that are alike; p is the share of
    resamples, counted with one more, whose own gap between the largest and the smallest deviation is as large as the
    gap of the data.

    Args:
        values: (G,) of the groups.
        draws: (G, R) on resamples; one in which a group has no value is left out.
    """
    known = draws[:, ~np.isnan(draws).any(axis=0)]
    by_chance = np.ptp(known - values[:, None], axis=0)
    return float((1 + np.count_nonzero(by_chance >= np.ptp(values))) / (1 + len(by_chance)))


def _column(boot: metrics.Bootstrap, m: int, metric: str) -> Floats:
    """(1 + R,) the mean over labels on the data, then on each resample."""
    at = boot.metrics.index(metric)
    return np.concatenate([[boot.values[m, -1, at]], boot.draws[:, m, -1, at]])
