"""The few sentences at the top of the report: what was asked, of whom, what was found, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusionctl.report import results, tables
from fusionctl.report.names import (
    CORRUPTION_NAMES,
    DASH,
    GROUP_NAMES,
    METRIC_NAMES,
    SUBSET_NAMES,
    distinct,
    group_short,
    model_name,
    number,
    p_value,
    percent,
)
from fusionctl.report.parts import Figure

QUESTIONS = {
    "mortality": "How well do models predict, 48 hours after admission to intensive care, who will die in hospital?",
    "phenotyping": "How well do models recognise which of 25 conditions an intensive-care stay was coded with?",
}
SUBSETS = ("all", "paired")
# A slope of the calibration between these is called fair.
FAIR_SLOPES = (0.8, 1.25)
# Stays with and without the outcome that a statement on calibration needs (Collins et al., Stat Med 2016).
CALIBRATED_FROM = 100
INTERVALS = {
    "percentile": "percentile intervals",
    "shifted": "percentile intervals moved by twice their bias, as estimated from the resamples",
    "basic": "basic intervals (resamples mirrored at the value)",
    "bca": "bias-corrected and accelerated (BCa) intervals",
}
READING = {
    "AUROC": "the chance that a stay with the outcome gets a higher probability than one without. 0.5 is guessing, 1 "
    "perfect; it does not depend on how often the outcome is.",
    "AUPRC": "the mean share of true alarms among alarms, with the threshold at each stay that has the outcome in turn "
    "(average precision). Guessing gives the outcome's prevalence, so compare it only where prevalences are alike.",
    "Binary F1, macro F1": "how well calls at one threshold find the outcome without false alarms; macro: the mean "
    "with the same for its absence.",
    "Interval": "which values fit the data, found by drawing the same patients anew many times. Nineteen of twenty "
    "should hold the true value; in simulations seventeen to nineteen do, fewest where outcomes are few. "
    "Other hospitals and other training runs are not covered.",
    "Calibration": "whether of the stays given 20 % really 20 in 100 have the outcome.",
}


def findings(content: Mapping[str, Any]) -> list[str]:
    """Sentences in the order of their weight; each only where its numbers are there and may be shown."""
    metrics = content["metrics"]
    found = [*(_best(metrics, subset) for subset in SUBSETS), _compared(metrics), _calibrated(metrics)]
    found += [_gap(metrics), _kept(content.get("robustness"), metrics)]
    return [sentence for sentence in found if sentence]


def method(metrics: Mapping[str, Any]) -> str:
    """Of whom the numbers are and how their intervals were made."""
    counts = tables.subset_counts(metrics)
    everyone = counts["all"]
    known = everyone["outcomes"] not in ("", DASH)
    outcome = f", {everyone['outcomes']} with the outcome ({everyone['prevalence']})" if known else ""
    return (
        f"Test set: {everyone['stays']} stays of {everyone['patients']} patients{outcome}; {counts['paired']['stays']} "
        f"stays have a film. In brackets: 95 % intervals from {metrics['resamples']:,} bootstrap resamples of "
        f"patients: {_intervals(metrics['intervals'])}. A probability of {metrics['threshold']:g} or more is a "
        "positive call, unless said otherwise."
    )


def _intervals(methods: Mapping[str, Mapping[str, str]]) -> str:
    """Which interval each metric has, and a difference of two models."""
    named = [(methods["values"][m], name) for m, name in (("auroc", "AUROC"), ("auprc", "AUPRC"), ("binary_f1", "F1"))]
    named += [(kind, "differences") for kind in sorted(set(methods["differences"].values()))]
    kinds = dict.fromkeys(kind for kind, _ in named)
    if len(kinds) == 1:
        return INTERVALS[named[0][0]]
    return "; ".join(f"of {', '.join(name for own, name in named if own == k)} {INTERVALS[k]}" for k in kinds)


def _scores(metrics: Mapping[str, Any], subset: str) -> list[tuple[float, str]]:
    """AUROC and name of every model that has one, best first."""
    entry = metrics["subsets"][subset]
    if not tables.enough(entry):
        return []
    values = [(tables.known_value(entry["models"][m]["metrics"], "auroc"), m) for m in distinct(metrics["models"])]
    return sorted(((v, m) for v, m in values if v is not None), key=lambda pair: -pair[0])


def _best(metrics: Mapping[str, Any], subset: str) -> str:
    scores = _scores(metrics, subset)
    if not scores:
        return ""
    best = scores[0][1]
    entry = metrics["subsets"][subset]["models"][best]["metrics"]
    texts = [f"{METRIC_NAMES[m]} {tables.with_interval(entry[m])}" for m in ("auroc", "auprc")]
    stays = SUBSET_NAMES[subset].lower()
    if len(scores) == 1:
        return f"AUROC on {stays}: {model_name(best)}, {', '.join(texts)}."
    without = ", ensembles left out" if len(distinct(metrics["models"])) < len(metrics["models"]) else ""
    return (
        f"Highest AUROC on {stays}: {model_name(best)}, {', '.join(texts)}; the best of {len(scores)} models{without}, "
        "found on these same stays, so it flatters."
    )


def _compared(metrics: Mapping[str, Any]) -> str:
    """How many of the paired differences stand after Holm's correction, and the largest of them."""
    subset = metrics["subsets"]["all"]
    pairs = [
        p
        for p in subset.get("comparisons", [])
        if p["metrics"]["auroc"].get("value") is not None and not p["own_ensemble"]
    ]
    if not pairs or not tables.enough(subset):
        return ""
    clear = [p for p in pairs if (p["metrics"]["auroc"].get("p_holm") or p["metrics"]["auroc"].get("p") or 1.0) < 0.05]
    if not clear:
        several = f"none of the {len(pairs)} differences in AUROC" if len(pairs) > 1 else "the difference in AUROC"
        verb = "is" if len(pairs) > 1 else "is not"
        return (
            f"Between models on all stays {several} {verb} distinguishable from chance at p < 0.05 (Holm's correction)."
        )
    best = max(clear, key=lambda p: abs(p["metrics"]["auroc"]["value"]))
    entry = best["metrics"]["auroc"]
    are = "are" if len(clear) > 1 else "is"
    change = Figure.of(entry, signed=True)
    return (
        f"Between models on all stays {len(clear)} of {len(pairs)} differences in AUROC {are} distinguishable from "
        f"chance (p < 0.05 after Holm's correction); the largest: {model_name(best['a'])} less "
        f"{model_name(best['b'])} {change}."
    )


def _calibrated(metrics: Mapping[str, Any]) -> str:
    """Calibration slopes of a single label, as they are: they have no interval."""
    everyone = metrics["subsets"]["all"]
    if len(metrics["labels"]) != 1 or not tables.drawable(everyone, metrics["labels"][0]):
        return ""
    positives, known = (everyone[key][metrics["labels"][0]] for key in ("positives", "known"))
    if min(positives, known - positives) < CALIBRATED_FROM:
        return ""
    slopes = {
        m: entry["slope"]
        for m in results.drawn(metrics)
        if (entry := metrics.get("calibration", {}).get(m, {}).get(metrics["labels"][0]))
        and entry.get("slope") is not None
    }
    fair = [m for m, slope in slopes.items() if FAIR_SLOPES[0] <= slope <= FAIR_SLOPES[1]]
    if not slopes:
        return ""
    others = [f"{model_name(m)} ({number(s, 2)})" for m, s in slopes.items() if m not in fair]
    said = (
        f"In these data {len(fair)} of {len(slopes)} models drawn have a calibration slope from {FAIR_SLOPES[0]} to "
        f"{FAIR_SLOPES[1]} (no interval)"
    )
    return f"{said}; outside: {', '.join(others)}." if others else f"{said}."


def _gap(metrics: Mapping[str, Any]) -> str:
    """The largest gap between groups of the best model, of those that the test tells from chance."""
    scores = _scores(metrics, "all")
    gaps = [g for g in metrics.get("gaps", []) if scores and g["model"] == scores[0][1] and g["metric"] == "auroc"]
    if not gaps:
        return ""
    clear = [g for g in gaps if (p := g["gap"].get("p_holm")) is not None and p < 0.05]
    if not clear:
        return (
            f"Subgroups: for {model_name(scores[0][1])} no gap in AUROC is distinguishable from chance at p < 0.05 "
            "(Holm's correction over the groupings)."
        )
    worst = max(clear, key=lambda g: g["gap"]["value"])
    by = GROUP_NAMES.get(worst["by"], worst["by"]).lower()
    return (
        f"Subgroups: the largest gap of {model_name(worst['model'])} that is distinguishable from chance is by {by}, "
        f"{number(worst['gap']['value'])} in AUROC ({group_short(worst['largest'])} best, "
        f"{group_short(worst['smallest'])} worst; {p_value(worst['gap']['p_holm'])} after Holm's correction over the "
        "groupings)."
    )


def _kept(found: Mapping[str, Any] | None, metrics: Mapping[str, Any]) -> str:
    """What models keep of their AUROC above guessing under the first corruption; of which there is too little."""
    areas = [a for a in (found or {}).get("area", []) if a["metric"] == "auroc" and a["value"] is not None]
    if not areas:
        return ""
    subset = "all" if any(a["subset"] == "all" for a in areas) else "paired"
    keys = ("trained", "corruption", "modality")
    first = areas[0]
    same = [a for a in areas if a["subset"] == subset and all(a[key] == first[key] for key in keys)]
    if not same or not tables.enough(metrics["subsets"][subset]):
        return ""
    shares: Sequence[str] = [
        f"{model_name(a['model'])} {percent(a['value'])}" for a in sorted(same, key=lambda a: -a["value"])
    ]
    name = CORRUPTION_NAMES.get(first["corruption"], first["corruption"])
    known, where = {a["model"] for a in same}, (*keys, "subset", "metric")
    clean = (r for r in (found or {})["curve"] if r["level"] == 0 and all(r[key] == same[0][key] for key in where))
    guessing = [model_name(r["model"]) for r in clean if r["model"] not in known and r["value"] is not None]
    rest = f"; no share of {', '.join(guessing)}: not clearly better than guessing" if guessing else ""
    return (
        f"Robustness ({name}): averaged over the levels, models keep of what their AUROC has above 0.5 (guessing): "
        f"{', '.join(shares)}{rest}."
    )
