"""Stage `robustness`: the models on test inputs of which a growing share is corrupted (paper, section V-G).

    preprocess, and the weights of each model
    ->  curve.parquet: model, noise, kind, modality, subset, metric, value, low, high;  curve.svg, metrics.json

Level 0, the clean input, is always there. Each level is one input for all models: a batch is corrupted once and every
model predicts it. All levels and models are judged on the same bootstrap resamples of the test patients.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from torch import nn

from fusionctl import fusion, loop, metrics
from fusionctl.data.batch import Batch, StayData, collate
from fusionctl.data.variables import VARIABLES
from fusionctl.disclosure import small
from fusionctl.errors import InputError, UsageError
from fusionctl.noise import Noise, NoiseStats, estimate, parse_levels
from fusionctl.noise_figure import draw
from fusionctl.settings import RobustnessSettings, Runtime
from fusionctl.workdir import Artifact, Draft, model_names

log = logging.getLogger("fusionctl")

BATCH = 64  # stays read, corrupted and predicted at a time; changes no result
SUBSETS = ("all", "paired")
_SCHEMA = {
    "model": pl.String,
    "noise": pl.Float64,
    "kind": pl.String,
    "modality": pl.String,
    "subset": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}

Probabilities = npt.NDArray[np.float32]


def run(draft: Draft, settings: RobustnessSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write curve.parquet, curve.svg, metrics.json and tables.json.

    Raises:
        UsageError: the levels break their rule, or a model reads no tensors.
        InputError: there is no test stay, or a model belongs to other data.
    """
    levels = (0.0, *parse_levels(settings.noise))
    preprocess: Artifact = inputs["preprocess"]
    artifacts: list[Artifact] = inputs["fuse"]
    _check_models(artifacts, preprocess)
    data = StayData.open(preprocess.path)
    rows = data.rows_of("test")
    if not len(rows):
        raise InputError(
            f"preprocess/{preprocess.id}: no stay is in the test split, so there is nothing to evaluate",
            hint="use more patients: fusionctl synth --stays 600 makes enough",
        )
    stats = _statistics(data, runtime.seed)
    noises = [Noise(stats, level=x, kind=settings.kind, modality=settings.modality, seed=runtime.seed) for x in levels]
    models = [fusion.load(artifact.file("weights.safetensors")).to(runtime.device) for artifact in artifacts]
    probabilities = np.stack([_predict(models, data, rows, noise, runtime) for noise in noises])
    names = model_names(artifacts)
    curve = _curve(names, levels, probabilities, data, rows, settings, runtime)
    pl.DataFrame(curve, schema=_SCHEMA, orient="row").write_parquet(draft.file("curve.parquet"))
    draft.rows["curve"] = len(curve)
    rounded = [_plain(row) for row in curve]
    draft.file("curve.svg").write_bytes(draw(rounded, title=_title(settings)))
    facts: dict[str, Any] = {"task": settings.task, "models": names, "levels": levels}
    facts |= {"kind": settings.kind, "seed": runtime.seed}
    facts |= {"modality": settings.modality, "resamples": settings.resamples, "threshold": settings.threshold}
    draft.write_json("metrics.json", {**facts, "artifacts": _ids(names, artifacts), "curve": rounded})
    draft.write_json("tables.json", [_table(rounded, names, levels, settings)])


def _check_models(artifacts: Sequence[Artifact], preprocess: Artifact) -> None:
    for artifact in artifacts:
        if artifact.setting("fusion") not in fusion.FUSIONS:
            raise UsageError(
                f"fuse/{artifact.id} ({artifact.setting('fusion')}) reads summaries and has no weights; "
                "rule: robustness takes networks",
                hint="choose the models, for example: fusionctl robustness --models attention,ehr",
            )
        source = artifact.manifest["inputs"].get("preprocess")
        if source != preprocess.id:
            raise InputError(
                f"fuse/{artifact.id} was trained on preprocess/{source}, not on preprocess/{preprocess.id}",
                hint=f"choose its data: fusionctl robustness --preprocess {source}",
            )


def _ids(names: Sequence[str], artifacts: Sequence[Artifact]) -> dict[str, str]:
    return {name: artifact.id for name, artifact in zip(names, artifacts, strict=True)}


def _statistics(data: StayData, seed: int) -> NoiseStats:
    return estimate(
        data.values,
        data.films,
        first_row=data.first_row,
        n_rows=data.n_rows,
        film=data.film,
        train=data.split == "train",
        continuous=np.array([not variable.is_categorical for variable in VARIABLES]),
        seed=seed,
    )


def _predict(
    models: Sequence[nn.Module], data: StayData, rows: npt.NDArray[np.int64], noise: Noise, runtime: Runtime
) -> Probabilities:
    """Probabilities (M, N, K) of all models for the rows under one noise; NaN where a model has no prediction."""
    films = any("cxr" in model.modalities for model in models)  # type: ignore[operator]
    parts = []
    for start in range(0, len(rows), BATCH):
        chunk = rows[start : start + BATCH]
        again = _once(collate(data, chunk, films=films, noise=noise).to(runtime.device))
        predict = partial(loop.predict, batch_size=len(chunk), device=runtime.device)
        parts.append(np.stack([predict(model, again, chunk) for model in models]))
        runtime.progress(f"noise {noise.level:.0%}", start + len(chunk), len(rows))
    return loop.chances(np.concatenate(parts, axis=1))


def _once(batch: Batch) -> Callable[[npt.NDArray[np.int64]], Batch]:
    return lambda rows: batch


def _curve(
    names: Sequence[str],
    levels: Sequence[float],
    probabilities: Probabilities,
    data: StayData,
    rows: npt.NDArray[np.int64],
    settings: RobustnessSettings,
    runtime: Runtime,
) -> list[dict[str, Any]]:
    """Rows of curve.parquet from probabilities (levels, M, N, K); subsets of fewer than 10 patients are left out."""
    curve: list[dict[str, Any]] = []
    fixed = {"kind": settings.kind, "modality": settings.modality}
    for index, subset in enumerate(SUBSETS):
        chosen = data.film[rows] >= (0 if subset == "paired" else -1)
        patients = data.subject_id[rows][chosen]
        n_patients = len(np.unique(patients))
        if small(n_patients) or not n_patients:
            log.warning("%s stays: fewer than 10 test patients, left out of the curve", subset)
            continue
        boot = metrics.bootstrap(
            data.labels[rows][chosen],
            probabilities[:, :, chosen].reshape(-1, int(chosen.sum()), len(data.label_names)),
            patients,
            resamples=settings.resamples,
            seed=(runtime.seed, index),  # as in `evaluate`: the clean input's intervals are the same there and here
            threshold=settings.threshold,
            progress=partial(runtime.progress, f"bootstrap, {subset} stays"),
        )
        for cell, (level, name) in enumerate((level, name) for level in levels for name in names):
            where = {"model": name, "noise": level, **fixed, "subset": subset}
            curve += [{**where, "metric": metric, **entry} for metric, entry in boot.interval(cell).items()]
    return curve


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as JSON knows them: what is not a number becomes null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _title(settings: RobustnessSettings) -> str:
    what = {"both": "series and films", "ehr": "series only", "cxr": "films only"}[settings.modality]
    return f"{settings.task}: {settings.kind} noise in {what}"


def _table(
    curve: Sequence[Mapping[str, Any]], names: Sequence[str], levels: Sequence[float], settings: RobustnessSettings
) -> dict[str, Any]:
    """The AUROC and AUPRC by level as `{title, header, rows}` of texts."""
    cells = {(r["subset"], r["model"], r["metric"], r["noise"]): r["value"] for r in curve}

    def lines() -> Iterator[list[str]]:
        for subset in SUBSETS:
            for name in names:
                for metric, text in (("auroc", "AUROC"), ("auprc", "AUPRC")):
                    values = [cells.get((subset, name, metric, level)) for level in levels]
                    if any(value is not None for value in values):
                        yield [subset, name, text, *("–" if v is None else f"{v:.3f}" for v in values)]

    header = ["stays", "model", "metric", *(f"{level:.4g}" for level in levels)]
    return {"title": f"{_title(settings)}, by share corrupted", "header": header, "rows": list(lines())}
