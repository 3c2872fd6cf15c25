"""Stage `evaluate`: compare models on the same test stays and the same bootstrap resamples of their patients.

    fuse: predictions.parquet of each model (stay_id, subject_id, split, has_film, label:<name>, prob:<name>)
    preprocess: samples.parquet; extract: diagnoses.parquet: who the patients of the subgroups are
    ->  metrics.json: metrics with intervals on all / paired / unpaired stays, differences, curves, calibration,
                      decision curves, subgroups, seeds, the uncertainty loss by label
        predictions.parquet: stay_id, has_film, label:<name>, prob:<model>:<name> of the test stays
        tables.json: for the terminal

Families of Holm's correction, metric by metric: the comparisons of a subset, those of an ensemble with its own seeds
apart; the labels of one comparison (not times the other comparisons); a model's groupings into subgroups.

A model that has no prediction for some stays of a subset gets no metric there: the film-only model is judged on the
stays with a film, and not on a subset of the others' stays.
Thresholds and temperatures are chosen on the validation stays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from fusionctl import evaluation, metrics, parquet, subgroups, taskwise, terminal
from fusionctl.comparisons import resamples_for
from fusionctl.curves import GRID
from fusionctl.errors import InputError
from fusionctl.evaluation_calibration import calibrations, decisions
from fusionctl.evaluation_comparisons import Contrasts, parse_compare
from fusionctl.evaluation_models import Models, Predictions, chosen_thresholds, models_of, with_ensembles
from fusionctl.intervals import Method, method_of
from fusionctl.model_name import model_names
from fusionctl.settings import EvaluateSettings, Runtime
from fusionctl.workdir import Artifact, Draft

log = logging.getLogger("fusionctl")


@dataclass(frozen=True)
class Evaluated:
    """What the subsets leave behind for what builds on them."""

    subsets: dict[str, dict[str, Any]]
    over_seeds: dict[str, dict[str, Any]]  # by subset, then model
    contrasts: dict[str, Contrasts]


def run(draft: Draft, settings: EvaluateSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write metrics.json, predictions.parquet and tables.json.

    Raises:
        InputError: the models were tested on different stays, tasks or labels, or there is no test stay.
        UsageError: `--compare` names no evaluated model.
    """
    artifacts: list[Artifact] = inputs["fuse"]
    names = model_names(artifacts)
    models = models_of(names)
    compared = parse_compare(settings.compare, models.names)
    test, validation = (read_predictions(artifacts, models, split) for split in ("test", "val"))
    if not len(test.stay_id):
        raise InputError(
            f"fuse/{artifacts[0].id}: no stay is in the test split, so there is nothing to evaluate",
            hint="use more patients: fusionctl synth --stays 600 makes enough",
        )
    seeds = [artifact.manifest.get("seed") for artifact in artifacts]
    thresholds = chosen_thresholds(validation)
    found = evaluate(test, models, thresholds, compared, settings, runtime)
    sigmas = taskwise.sigmas_of(names, [a.json("metrics.json").get("sigmas") for a in artifacts])
    result = {
        "task": settings.task,
        "models": list(models.names),
        "artifacts": {name: _ids(artifacts, models, name) for name in models.names},
        "labels": list(test.label_names),
        "grid": GRID.tolist(),
        **{key: getattr(settings, key) for key in ("resamples", "interval", "threshold")},
        "intervals": _intervals(settings.interval),
        "seed": runtime.seed,
        "thresholds": _by_model(thresholds, models, test.label_names),
        "subsets": found.subsets,
        "seeds": _seeds(found, models, seeds),
        "calibration": calibrations(test, validation, models, resamples=settings.resamples, seed=(runtime.seed, 0)),
        "decision": decisions(test, models),
        **_subgroups(test, models, inputs, settings, runtime),
        "taskwise": taskwise.table(found.subsets["all"], found.contrasts["all"], models, sigmas),
        "sigmas": sigmas,
    }
    _warn_of_few_resamples(result["subsets"], settings.resamples)
    result = evaluation.plain(result)
    draft.write_json("metrics.json", result)
    draft.write_json("tables.json", terminal.tables(result))
    joined(test, models, names, artifacts).write_parquet(draft.file("predictions.parquet"))
    draft.rows["predictions"] = len(test.stay_id)


def read_predictions(artifacts: Sequence[Artifact], models: Models, split: str) -> Predictions:
    """Read and join the predictions of all models for the stays of one split, the ensembles' after the artifacts'.

    Raises:
        InputError: the models predict different stays, tasks or labels.
    """
    tables = [parquet.read(a.file("predictions.parquet")).filter(pl.col("split") == split) for a in artifacts]
    first = tables[0]
    known = _labels(first)
    for artifact, table in zip(artifacts, tables, strict=True):
        _check_same(artifacts[0], first, artifact, table)
    names = tuple(name.removeprefix("label:") for name in known)
    columns = [f"prob:{name}" for name in names]
    probabilities = np.stack([table.select(columns).to_numpy().astype(np.float64) for table in tables])
    return Predictions(
        names,
        first["stay_id"].to_numpy(),
        first["subject_id"].to_numpy(),
        first["has_film"].to_numpy(),
        first.select(known).to_numpy().astype(np.float64),
        with_ensembles(probabilities, models),
    )


def _labels(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith("label:")]


def _check_same(one: Artifact, first: pl.DataFrame, other: Artifact, table: pl.DataFrame) -> None:
    """Every model must have been tested on the same stays with the same labels."""
    shared = ["stay_id", "subject_id", "has_film", *_labels(first)]
    tasks = one.setting("task"), other.setting("task")
    rule = ""
    if tasks[0] != tasks[1]:
        rule = f"were trained for different tasks ({tasks[0]} and {tasks[1]})"
    elif _labels(table) != _labels(first):
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
    test: Predictions,
    models: Models,
    thresholds: Any,
    compared: Sequence[str],
    settings: EvaluateSettings,
    runtime: Runtime,
) -> Evaluated:
    """All test stays, those with a film, those without: metrics, curves, differences, and the spread over seeds."""
    found = Evaluated({}, {}, {})
    for index, (name, rows) in enumerate(evaluation.subset_rows(test).items()):
        part = test.of(rows)
        single = metrics.bootstrap(
            part.labels,
            part.probabilities,
            part.subject_id,
            resamples=settings.resamples,
            seed=(runtime.seed, index),
            threshold=settings.threshold,
            tuned=thresholds,
            progress=partial(runtime.progress, f"bootstrap, {name} stays"),
        )
        boot, method = single.grouped(models.rows), settings.interval
        contrasts = Contrasts(part, boot, models, method=method)
        found.contrasts[name] = contrasts
        found.over_seeds[name] = evaluation.over_seeds(single, models)
        found.subsets[name] = {
            **evaluation.counts(part),
            "models": {m: evaluation.model_entry(part, boot, models, m, method=method) for m in models.names},
            "differences": contrasts.differences(compared[0] if compared else None),
            "comparisons": contrasts.comparisons(compared),
        }
    return found


def _intervals(method: Method) -> dict[str, dict[str, Method]]:
    """Which interval each metric has, as a value and as a difference."""
    names = (*metrics.METRICS, *metrics.TUNED)
    return {
        "values": {name: method_of(method, name) for name in names},
        "differences": {name: method_of(method, name, difference=True) for name in names},
    }


def _warn_of_few_resamples(subsets: Mapping[str, Mapping[str, Any]], resamples: int) -> None:
    """Say it if no p of the largest family of tests can be below 0.05 after Holm's correction, however clear."""
    pairs = [subset["comparisons"] for subset in subsets.values()]
    labels = max((len(pair["labels"]) for found in pairs for pair in found), default=0)
    family = max(labels, *(sum(not pair["own_ensemble"] for pair in found) for found in pairs))
    if resamples < (enough := resamples_for(family)):
        log.warning(
            "--resamples %s: with %s comparisons no p is below 0.05 after Holm's correction; --resamples %s suffices",
            *(f"{number:,}" for number in (resamples, family)),
            enough,
        )


def _subgroups(
    test: Predictions, models: Models, inputs: Mapping[str, Any], settings: EvaluateSettings, runtime: Runtime
) -> dict[str, Any]:
    samples = parquet.read(inputs["preprocess"].file("samples.parquet"))
    diagnoses = parquet.read(inputs["extract"].file("diagnoses.parquet"))
    found, gaps = subgroups.evaluate(
        test,
        models,
        subgroups.groups_of(test.stay_id, samples, diagnoses),
        resamples=settings.resamples,
        seed=(runtime.seed, 0),
        method=settings.interval,
        progress=partial(runtime.progress, "bootstrap, subgroups"),
    )
    return {"subgroups": found, "gaps": gaps}


def _ids(artifacts: Sequence[Artifact], models: Models, name: str) -> list[str]:
    """Ids of the artifacts that a model, or an ensemble, was made from."""
    rows = models.rows[models.index(name)]
    made_of = [models.members[row - len(artifacts)] if row >= len(artifacts) else (row,) for row in rows]
    return [artifacts[i].id for members in made_of for i in members]


def _by_model(thresholds: Any, models: Models, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """The chosen thresholds (M, K) by model and label; of a seed group the mean of its seeds' own."""
    means = {name: thresholds[list(rows)].mean(axis=0) for name, rows in zip(models.names, models.rows, strict=True)}
    return {name: dict(zip(labels, row.tolist(), strict=True)) for name, row in means.items()}


def _seeds(found: Evaluated, models: Models, seeds: Sequence[int | None]) -> dict[str, Any]:
    entries = {}
    for name in models.groups:
        own = [seeds[row] for row in models.rows[models.index(name)]]
        by_subset = {subset: groups[name] for subset, groups in found.over_seeds.items()}
        entries[name] = {"n": len(own), "seeds": own, "subsets": by_subset}
    return entries


def joined(test: Predictions, models: Models, names: Sequence[str], artifacts: Sequence[Artifact]) -> pl.DataFrame:
    """predictions.parquet: a row a test stay, its labels, and of each model (of seeds, each artifact) its chances."""
    columns: dict[str, Any] = {"stay_id": test.stay_id, "has_film": test.has_film}
    columns |= {f"label:{name}": test.labels[:, k].astype(np.float32) for k, name in enumerate(test.label_names)}
    single = [f"{n} {a.id[:6]}" if n in models.groups else n for n, a in zip(names, artifacts, strict=True)]
    ensembles = [name for name in models.names if name not in models.own]
    for m, model in enumerate([*single, *ensembles]):
        own = test.probabilities[m].astype(np.float32)
        columns |= {f"prob:{model}:{name}": own[:, k] for k, name in enumerate(test.label_names)}
    return pl.DataFrame(columns)
