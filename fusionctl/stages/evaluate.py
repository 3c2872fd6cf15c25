"""Stage `evaluate`: compare models on the same test stays and the same bootstrap resamples of their patients.

    fuse: predictions.parquet of each model (stay_id, subject_id, split, has_film, label:<name>, prob:<name>)
    ->  metrics.json: metrics with intervals, differences, curves, calibration, on all / paired / unpaired stays
        predictions.parquet: stay_id, has_film, label:<name>, prob:<model>:<name> of the test stays

A model that has no prediction for some stays of a subset gets no metric there: the film-only model is judged on the
stays with a film, and not on a subset of the others' stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusionctl import metrics
from fusionctl.curves import GRID, precision_curve, reliability, roc_curve
from fusionctl.errors import InputError
from fusionctl.report import tables as report_tables
from fusionctl.settings import EvaluateSettings, Runtime
from fusionctl.workdir import Artifact, Draft, model_names

SUBSETS = ("all", "paired", "unpaired")


@dataclass(frozen=True)
class Predictions:
    """The test predictions of all models, row by row for the same stays.

    stay_id, subject_id, has_film: (N,); labels: (N, K); probabilities: (M, N, K), NaN where a model has no input.
    """

    models: tuple[str, ...]
    label_names: tuple[str, ...]
    stay_id: NDArray[np.int64]
    subject_id: NDArray[np.int64]
    has_film: NDArray[np.bool_]
    labels: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def run(draft: Draft, settings: EvaluateSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write metrics.json, predictions.parquet and tables.json.

    Raises:
        InputError: the models were tested on different stays, tasks or labels, or there is no test stay.
    """
    artifacts: list[Artifact] = inputs["fuse"]
    test = read_predictions(artifacts)
    options: dict[str, Any] = {"resamples": settings.resamples, "threshold": settings.threshold, "seed": runtime.seed}
    result = {
        "task": settings.task,
        "models": list(test.models),
        "artifacts": {name: artifact.id for name, artifact in zip(test.models, artifacts, strict=True)},
        "labels": list(test.label_names),
        "grid": _plain(GRID.tolist()),
        **options,
        "subsets": evaluate(test, **options, progress=runtime.progress),
    }
    draft.write_json("metrics.json", result)
    draft.write_json("tables.json", [report_tables.terminal_table(result)])
    joined(test).write_parquet(draft.file("predictions.parquet"))
    draft.rows["predictions"] = len(test.stay_id)


def read_predictions(artifacts: Sequence[Artifact]) -> Predictions:
    """Read and join the models' test predictions.

    Raises:
        InputError: the models were tested on different stays, tasks or labels, or there is no test stay.
    """
    tables = [pl.read_parquet(a.file("predictions.parquet")).filter(pl.col("split") == "test") for a in artifacts]
    first = tables[0]
    known = [name for name in first.columns if name.startswith("label:")]
    shared = ["stay_id", "subject_id", "has_film", *known]
    for artifact, table in zip(artifacts, tables, strict=True):
        _check_same(artifacts[0], first, artifact, table, shared)
    if not len(first):
        raise InputError(
            f"fuse/{artifacts[0].id}: no stay is in the test split, so there is nothing to evaluate",
            hint="use more patients: fusionctl synth --stays 600 makes enough",
        )
    names = tuple(name.removeprefix("label:") for name in known)
    probabilities = [table.select([f"prob:{name}" for name in names]).to_numpy() for table in tables]
    return Predictions(
        tuple(model_names(artifacts)),
        names,
        first["stay_id"].to_numpy(),
        first["subject_id"].to_numpy(),
        first["has_film"].to_numpy(),
        first.select(known).to_numpy(),
        np.stack(probabilities),
    )


def _check_same(one: Artifact, first: pl.DataFrame, other: Artifact, table: pl.DataFrame, shared: list[str]) -> None:
    """Every model must have been tested on the same stays with the same labels."""
    tasks = one.setting("task"), other.setting("task")
    rule = ""
    if tasks[0] != tasks[1]:
        rule = f"were trained for different tasks ({tasks[0]} and {tasks[1]})"
    elif set(table.columns) != set(first.columns):
        rule = "predict different labels"
    elif len(table) != len(first) or not table["stay_id"].equals(first["stay_id"]):
        rule = f"were tested on different stays ({len(first)} and {len(table)} rows)"
    elif not table.select(shared).equals(first.select(shared), null_equal=True):
        rule = "disagree about patients, films or labels of the same stays"
    if rule:
        raise InputError(
            f"fuse/{one.id} and fuse/{other.id} {rule}, so they cannot be compared",
            hint="train both on one preprocess artifact: fusionctl fuse --preprocess ID, then evaluate again",
        )


def evaluate(
    test: Predictions, *, resamples: int, threshold: float, seed: int, progress: Callable[[str, int, int | None], None]
) -> dict[str, Any]:
    """The `subsets` of metrics.json: all test stays, those with a film, those without."""
    rows = {"all": np.ones(len(test.stay_id), bool), "paired": test.has_film, "unpaired": ~test.has_film}
    subsets = {}
    for index, name in enumerate(SUBSETS):
        chosen = rows[name]
        labels, probabilities = test.labels[chosen], test.probabilities[:, chosen]
        boot = metrics.bootstrap(
            labels,
            probabilities,
            test.subject_id[chosen],
            resamples=resamples,
            seed=(seed, index),
            threshold=threshold,
            progress=partial(progress, f"bootstrap, {name} stays"),
        )
        subsets[name] = {
            **_counts(test.label_names, labels, test.subject_id[chosen]),
            "models": {
                model: _model(test.label_names, labels, probabilities[m], boot, m)
                for m, model in enumerate(test.models)
            },
            "differences": _differences(test, probabilities, boot),
        }
    return subsets


def _counts(names: Sequence[str], labels: NDArray[np.float32], patients: NDArray[np.int64]) -> dict[str, Any]:
    known, positive = (~np.isnan(labels)).sum(axis=0), (labels > 0).sum(axis=0)
    return {
        "n": len(labels),
        "patients": len(np.unique(patients)),
        "known": dict(zip(names, known.tolist(), strict=True)),
        "positives": dict(zip(names, positive.tolist(), strict=True)),
        "prevalence": {
            n: p / k if k else None for n, k, p in zip(names, known.tolist(), positive.tolist(), strict=True)
        },
    }


def _model(
    names: Sequence[str],
    labels: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    boot: metrics.Bootstrap,
    model: int,
) -> dict[str, Any]:
    """One model on one subset: mean over labels, and each label with its curves; (N, K) labels and probabilities."""
    missing = int(np.isnan(probabilities).any(axis=1).sum())
    by_label = {}
    for k, name in enumerate(names):
        truth, scores = labels[:, k], probabilities[:, k]
        by_label[name] = {
            "metrics": _plain(boot.interval(model, k)),
            "note": _note(truth),
            "undefined": 0 if np.isnan(boot.values[model, k]).any() else boot.undefined(model, k),
            "roc": _plain(roc_curve(truth, scores).round(4).tolist()),
            "pr": _plain(precision_curve(truth, scores).round(4).tolist()),
            "calibration": _plain(reliability(truth, scores)),
        }
    note = f"no prediction for {missing} of {len(labels)} stays" if missing else None
    return {"metrics": _plain(boot.interval(model)), "labels": by_label, "missing": missing, "note": note}


def _note(truth: NDArray[np.float32]) -> str | None:
    """Why a label has no metric, if it has none for want of rows."""
    known = truth[~np.isnan(truth)]
    if not len(known):
        return "no stay with a known label"
    return "one class only: no metric is defined" if known.min() == known.max() else None


def _differences(test: Predictions, probabilities: NDArray[np.float32], boot: metrics.Bootstrap) -> dict[str, Any]:
    """Each complete model minus the first complete one, on the same resamples."""
    complete = [m for m in range(len(test.models)) if not np.isnan(probabilities[m]).any()]
    if not complete or not probabilities.shape[1]:
        return {"reference": None, "models": {}}
    reference, *others = complete
    models = {
        test.models[m]: {
            "metrics": _plain(boot.difference(m, reference)),
            "labels": {name: _plain(boot.difference(m, reference, k)) for k, name in enumerate(test.label_names)},
        }
        for m in others
    }
    return {"reference": test.models[reference], "models": models}


def joined(test: Predictions) -> pl.DataFrame:
    """predictions.parquet: one row a test stay, its labels, and one probability per model and label."""
    columns: dict[str, Any] = {"stay_id": test.stay_id, "has_film": test.has_film}
    columns |= {f"label:{name}": test.labels[:, k] for k, name in enumerate(test.label_names)}
    for m, model in enumerate(test.models):
        columns |= {f"prob:{model}:{name}": test.probabilities[m, :, k] for k, name in enumerate(test.label_names)}
    return pl.DataFrame(columns)


def _plain(content: Any) -> Any:
    """Numbers as JSON knows them: what is not a number becomes null."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
