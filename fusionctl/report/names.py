"""What the report calls models, metrics, subsets, splits and corruptions, and how it writes numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fusionctl.model_name import parts

TASK_NAMES = {"mortality": "In-hospital mortality", "phenotyping": "Phenotypes"}
# The order of the paper's tables.
METRIC_NAMES = {"macro_f1": "Macro F1", "binary_f1": "Binary F1", "auroc": "AUROC", "auprc": "AUPRC"}
TUNED_NAMES = {"macro_f1_tuned": "Macro F1, tuned", "binary_f1_tuned": "Binary F1, tuned"}
MODEL_NAMES = {
    "attention": "Attention fusion",
    "medfuse": "MedFuse",
    "early": "Early fusion",
    "joint": "Joint fusion",
    "late": "Late fusion",
    "mmtm": "MMTM",
    "daft": "DAFT",
    "drfuse": "DrFuse",
    "contrastive": "Contrastive",
    "card": "CARD",
    "ehr": "Time series alone",
    "cxr": "Film alone",
    "trees": "Gradient-boosted trees",
    "trees-film": "Trees + film score",
    "logistic": "Logistic regression",
    "logistic-film": "Logistic + film score",
}
LOSS_NAMES = {
    "uncertainty": "uncertainty loss",
    "uncertainty-reference": "uncertainty loss of the reference code",
    "focal": "focal loss",
    "balanced": "class-balanced loss",
}
SUBSET_NAMES = {"all": "All stays", "paired": "Stays with a film", "unpaired": "Stays without a film"}
SPLIT_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}
CORRUPTION_NAMES = {
    "noise": "Gaussian noise",
    "film-missing": "Films taken away",
    "film-stale": "Older film instead of the last",
    "variables": "Variables taken away",
    "gap": "Gap in time",
    "blur": "Blurred film",
    "jpeg": "Film compressed (JPEG)",
    "contrast": "Film contrast lowered",
    "units": "Unit mistakes",
}
INTERVAL_NAMES = {"percentile": "percentile", "shifted": "shifted percentile", "basic": "basic", "bca": "BCa"}
KIND_NAMES = {"additive": "additive", "zero-mean": "zero-mean", "replace": "replacing"}
MODALITY_NAMES = {"both": "series and films", "ehr": "series only", "cxr": "films only"}
TRAINED_NAMES = {"clean": "trained on clean input", "noisy": "trained on input as noisy as at the test"}
GROUP_NAMES = {
    "sex": "Sex",
    "age": "Age",
    "race": "Race",
    "care_unit": "Care unit",
    "era": "Coded in",
    "film": "Film",
}
# Longest name of a label in charts and headings of columns.
SHORT_LABEL = 31
ENSEMBLE = " ensemble"
DASH = "–"


def model_name(model: str) -> str:
    """Name of a model for people, from `FUSION`, `FUSION+LOSS`, and after a space the id that tells it from another."""
    system, _, rest = model.partition(" ")
    fusion, loss = parts(system)
    more = [f"{LOSS_NAMES.get(loss, loss)}"] if loss else []
    more += [rest] if rest else []
    name = MODEL_NAMES.get(fusion, fusion)
    return f"{name} ({', '.join(more)})" if more else name


def distinct(models: Iterable[str]) -> list[str]:
    """The models without the ensembles of seeds: these repeat the curves of the group that they are made of."""
    every = list(models)
    return [m for m in every if not (m.endswith(ENSEMBLE) and m.removesuffix(ENSEMBLE) in every)]


def short(label: str) -> str:
    """A label's name without what is in brackets, cut at a word where it is still long."""
    name = label.partition(" (")[0]
    if len(name) <= SHORT_LABEL:
        return name
    return name[: SHORT_LABEL - 1].rpartition(" ")[0].rstrip(";,") + " …"


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with fixed digits, or a dash where there is none."""
    if value is None:
        return DASH
    # Adding 0 turns a rounded -0.000 into 0.000.
    text = f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """`p 0.070`, or `p < 0.001`."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"


def percent(share: float, digits: int = 1) -> str:
    """A share as per cent; the sign stays on the number's line."""
    return f"{100 * share:.{digits}f}\u00a0%"


def size(parameters: int | None) -> str:
    """A number of parameters: `23.9 M (23,871,824)`."""
    return f"{parameters / 1e6:.1f}\u00a0M ({parameters:,})" if parameters else DASH


def duration(seconds: float | None) -> str:
    """A time in the unit that fits it: `41 s`, `8.3 min`, `2.5 h`."""
    if seconds is None:
        return DASH
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f}\u00a0{unit}"
    return f"{seconds:.0f}\u00a0s"


def with_interval(entry: Mapping[str, float | None]) -> str:
    """`0.857 (0.842–0.871)`, or a dash; without the interval where no draw varied."""
    if entry["value"] is None:
        return DASH
    interval = "" if entry["low"] == entry["high"] else f" ({number(entry['low'])}–{number(entry['high'])})"
    return f"{number(entry['value'])}{interval}"


def group_name(group: str) -> str:
    """A group of stays for people: what stands in brackets of a care unit, capitals as words."""
    name, _, rest = group.partition(" (")
    if rest:
        return f"{name} ({rest}" if len(name) < SHORT_LABEL else rest.rstrip(")")
    word = group.capitalize() if group.isalpha() and group.isupper() else group[:1].upper() + group[1:]
    return {"F": "Female", "M": "Male", "with a film": "There", "without a film": "Absent"}.get(group, word)


def group_short(group: str) -> str:
    """A group's name for a chart: of a care unit its letters in brackets, where it has them."""
    _, _, rest = group.partition(" (")
    return rest.rstrip(")") if rest else group_name(group)
