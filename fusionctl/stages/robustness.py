"""Stage `robustness`: from the cells of a sweep to curves and areas (paper, section V-G, and more).

    preprocess, fuse (all networks), cell (one model under one corruption each)
    ->  curve.parquet: model, trained, corruption, kind, modality, level, subset, metric, value, low, high and relative,
        relative_low, relative_high;  metrics.json, curve.svg

All cells are judged on the same bootstrap resamples of the test patients, those of `evaluate`. A seed group is one
model: the mean over its seeds. Relative performance is what AUROC has above 0.5, or AUPRC above the prevalence, at a
level divided by the same on the clean input; none where that is not clearly above 0, and none of an F1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fusionctl import corruption_areas as summary
from fusionctl import corruption_cells, fusion, metrics, parquet
from fusionctl.calibration import brier_bootstrap
from fusionctl.corruption_cells import Cell, Curve
from fusionctl.corruption_film import previous_films
from fusionctl.data.batch import StayData
from fusionctl.disclosure import small
from fusionctl.intervals import VALUES, interval
from fusionctl.model_name import model_names
from fusionctl.noise import parse_levels
from fusionctl.noise_figure import METRICS, curve_key, draw, title_of
from fusionctl.report.names import number, with_interval
from fusionctl.settings import RobustnessSettings, Runtime
from fusionctl.workdir import Artifact, Draft

log = logging.getLogger("fusionctl")

SUBSETS = ("all", "paired")
_AT_ONCE = 8  # cells whose bootstrap is in memory with all labels
_TEXTS = ("model", "trained", "corruption", "kind", "modality", "level", "subset", "metric")
_NUMBERS = ("value", "low", "high", "relative", "relative_low", "relative_high")
_SCHEMA = {n: pl.Float64 if n in ("level", *_NUMBERS) else pl.String for n in (*_TEXTS, *_NUMBERS)}

Floats = npt.NDArray[np.float64]
Scored = tuple[Floats, Floats]  # (L, F) by level, (R, L, F) on the resamples
Chance = tuple[Floats, Floats]  # (F,) scores of guessing, (R, F) on the resamples
Scores = dict[Cell, tuple[Floats, Floats]]  # (F,) on the data, (R, F) on resamples: means over the labels


def run(draft: Draft, settings: RobustnessSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write curve.parquet, curve.svg, metrics.json and tables.json.

    Raises:
        UsageError: the levels, the corruptions or the modalities break their rule.
    """
    artifacts: list[Artifact] = inputs["fuse"]
    names, levels = model_names(artifacts), (0.0, *parse_levels(settings.noise))
    curves = corruption_cells.curves(
        settings.corruption, kind=settings.kind, modality=settings.modality, train_on=settings.train_on
    )
    reads = [fusion.FUSIONS[artifact.setting("fusion")].modalities for artifact in artifacts]
    cells = corruption_cells.cells(curves, levels, reads)
    made: dict[Cell, Artifact] = dict(zip(cells, inputs["cell"], strict=True))
    data = StayData.open(inputs["preprocess"].path)
    sweep = _Sweep(curves, levels, names, reads)
    rows: list[dict[str, Any]] = []
    areas: dict[tuple[Any, ...], tuple[float, Floats]] = {}
    subsets: dict[str, Any] = {}
    guesses: dict[str, Any] = {}
    for index, (subset, chosen) in enumerate(_subsets(data)):
        patients = data.subject_id[data.rows_of("test")][chosen]
        n_patients = len(np.unique(patients))
        if small(n_patients) or not n_patients:
            log.warning("%s stays: fewer than 10 test patients, left out of the curve", subset)
            continue
        seed = (runtime.seed, index)
        chance = _chance(data, chosen, patients, seed, settings.resamples)
        guessed = dict(zip(metrics.METRICS, chance[0].tolist(), strict=True))
        subsets[subset] = {"n": int(chosen.sum()), "patients": n_patients}
        guesses[subset] = _plain({metric: guessed[metric] for metric in METRICS})
        scores = _scores(made, data, chosen, patients, seed, settings, subset, runtime)
        rows += sweep.rows(subset, scores, chance)
        areas |= sweep.areas(subset, scores, chance)
    pl.DataFrame(rows, schema=_SCHEMA, orient="row").write_parquet(draft.file("curve.parquet"))
    draft.rows["curve"] = len(rows)
    records, differences = ([_plain(record) for record in part] for part in summary.areas(areas))
    rounded = [_plain(row) for row in rows]
    facts: dict[str, Any] = {
        **{"task": settings.task, "models": list(dict.fromkeys(names)), "artifacts": _ids(names, artifacts)},
        **{"levels": levels, "corruptions": list(dict.fromkeys(curve.corruption for curve in curves))},
        **{"kind": settings.kind, "modality": settings.modality, "train_on": settings.train_on},
        **{"seed": runtime.seed, "resamples": settings.resamples, "threshold": settings.threshold},
        **{"subsets": subsets, "chance": guesses, "films": _films(data, inputs["preprocess"])},
    }
    if "film-stale" in facts["corruptions"] and not facts["films"]["with_earlier_film"]:
        log.warning("film-stale: no test stay's patient has an earlier film, so nothing changes")
    draft.write_json("metrics.json", {**facts, "curve": rounded, "area": records, "area_differences": differences})
    draft.file("curve.svg").write_bytes(draw(rounded, task=settings.task))
    draft.write_json("tables.json", _tables(rounded, records, settings.task, levels))


class _Sweep:
    """How curves and models are made from cells."""

    def __init__(
        self, curves: Sequence[Curve], levels: Sequence[float], names: Sequence[str], reads: Sequence[Sequence[str]]
    ) -> None:
        self._curves, self._levels, self._reads = curves, levels, reads
        self._members: dict[str, list[int]] = {}
        for model, name in enumerate(names):
            self._members.setdefault(name, []).append(model)

    def _lines(self, scores: Scores, chance: Chance) -> Iterator[tuple[Curve, str, Scored, Scored]]:
        """Each curve of each model: scores (L, F) and draws (R, L, F), means over its seeds; the same above chance."""
        for curve in self._curves:
            for name, members in self._members.items():
                cells = [
                    [scores[corruption_cells.cell_of(curve, level, m, self._reads[m])] for level in self._levels]
                    for m in members
                ]
                values = np.mean([[cell[0] for cell in line] for line in cells], axis=0)
                draws = np.mean([np.stack([cell[1] for cell in line], axis=1) for line in cells], axis=0)
                yield curve, name, (values, draws), summary.above_chance(values, draws, *chance)

    def rows(self, subset: str, scores: Scores, chance: Chance) -> Iterator[dict[str, Any]]:
        """Rows of curve.parquet."""
        for curve, name, (values, draws), (above, drawn_above) in self._lines(scores, chance):
            shares, drawn_shares = summary.relative(above), summary.relative(drawn_above)
            for place, level in enumerate(self._levels):
                where = {**_of(name, curve), "level": level, "subset": subset}
                for f, (metric, method) in enumerate(zip(metrics.METRICS, summary.METHODS, strict=True)):
                    absolute = interval(values[place, f], draws[:, place, f], method, bounds=VALUES)
                    share = interval(shares[place, f], drawn_shares[:, place, f])
                    yield {**where, "metric": metric, **absolute, **summary.named(share, "relative")}

    def areas(self, subset: str, scores: Scores, chance: Chance) -> dict[tuple[Any, ...], tuple[float, Floats]]:
        """Area and draws (R,) of each curve of each model, as `corruption_areas.areas` takes them."""
        found: dict[tuple[Any, ...], tuple[float, Floats]] = {}
        for curve, name, _, (above, drawn_above) in self._lines(scores, chance):
            value, drawn = summary.area(self._levels, above), summary.area(self._levels, drawn_above)
            for f, metric in enumerate(metrics.METRICS):
                if metric in METRICS:
                    found[(*_of(name, curve).values(), subset, metric)] = (float(value[f]), drawn[:, f])
        return found


def _of(name: str, curve: Curve) -> dict[str, str]:
    parts = {"corruption": curve.corruption, "kind": curve.kind, "modality": curve.modality}
    return {"model": name, "trained": curve.trained, **parts}


def _subsets(data: StayData) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Which of the test stays are in each subset; a film that a corruption takes away is one that the stay has."""
    film = data.film[data.rows_of("test")]
    yield "all", np.ones(len(film), dtype=bool)
    yield "paired", film >= 0


def _scores(
    made: Mapping[Cell, Artifact],
    data: StayData,
    chosen: npt.NDArray[np.bool_],
    patients: npt.NDArray[Any],
    seed: tuple[int, int],
    settings: RobustnessSettings,
    subset: str,
    runtime: Runtime,
) -> Scores:
    """Every cell's metrics on some of the test stays, with their draws."""
    found: Scores = {}
    cells, labels = list(made), data.labels[data.rows_of("test")][chosen]
    for start in range(0, len(cells), _AT_ONCE):
        part = cells[start : start + _AT_ONCE]
        boot = metrics.bootstrap(
            labels,
            np.stack([np.load(made[cell].file("probabilities.npy"))[chosen] for cell in part]),
            patients,
            resamples=settings.resamples,
            seed=seed,  # as in `evaluate`: with its `auto` the clean input's intervals are the same there and here
            threshold=settings.threshold,
        )
        found |= {cell: (boot.values[i, -1], boot.draws[:, i, -1].copy()) for i, cell in enumerate(part)}
        runtime.progress(f"bootstrap of cells, {subset} stays", start + len(part), len(cells))
    return found


def _chance(
    data: StayData, chosen: npt.NDArray[np.bool_], patients: npt.NDArray[Any], seed: tuple[int, int], resamples: int
) -> Chance:
    """What guessing scores: AUROC 0.5, AUPRC the prevalence; NaN for an F1, which depends on how one guesses."""
    labels = data.labels[data.rows_of("test")][chosen]
    # The Brier score of saying never is how often the outcome is.
    boot = brier_bootstrap(labels, np.zeros((1, *labels.shape)), patients, resamples=resamples, seed=seed)
    scores = []
    for prevalence in (boot.values[:, -1, 0], boot.draws[:, 0, -1, 0]):
        unknown = np.full_like(prevalence, np.nan)
        known = {"auroc": np.full_like(prevalence, 0.5), "auprc": prevalence}
        scores.append(np.stack([known.get(metric, unknown) for metric in metrics.METRICS], axis=-1))
    return scores[0][0], scores[1]


def _ids(names: Sequence[str], artifacts: Sequence[Artifact]) -> dict[str, list[str]]:
    return {n: [a.id for name, a in zip(names, artifacts, strict=True) if name == n] for n in dict.fromkeys(names)}


def _films(data: StayData, source: Artifact) -> dict[str, int]:
    """How many test stays have a film, and how many of these have an earlier one that `film-stale` can take."""
    films = parquet.read(source.file("films.parquet"), columns=["film", "subject_id", "view", "study_time"])
    previous = previous_films(films, view=source.setting("film_view") or "AP", n_films=len(data.films))
    film = data.film[data.rows_of("test")]
    return {"stays": int((film >= 0).sum()), "with_earlier_film": int((previous[film[film >= 0]] >= 0).sum())}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as JSON knows them: what is not a number becomes null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _tables(
    curve: Sequence[Mapping[str, Any]], areas: Sequence[Mapping[str, Any]], task: str, levels: Sequence[float]
) -> list[dict[str, Any]]:
    """AUROC and AUPRC by level and the area, a `{title, header, rows}` of texts a curve."""
    header = ["stays", "model", "metric", *(f"{100 * level:.4g} %" for level in levels), "area (95 % interval)"]
    by_curve: dict[tuple[str, ...], dict[tuple[str, str, str], dict[float, Any]]] = {}
    titles = {}
    for row in curve:
        if row["metric"] in METRICS:
            titles[curve_key(row)] = title_of(row)
            line = (row["subset"], row["model"], row["metric"])
            by_curve.setdefault(curve_key(row), {}).setdefault(line, {})[row["level"]] = row["value"]
    area = {(*curve_key(a), a["subset"], a["model"], a["metric"]): a for a in areas}
    return [
        {
            "title": f"{task}: {titles[key]}",
            "header": header,
            "rows": [
                [subset, model, METRICS[metric], *(number(values[level]) for level in levels)]
                + [with_interval(area[*key, subset, model, metric])]
                for (subset, model, metric), values in lines.items()
                if any(value is not None for value in values.values())
            ],
        }
        for key, lines in by_curve.items()
    ]
