"""`pretrain-cxr`: train the film encoder on the 14 radiology labels or on a task, and test it on others' films.

preprocess: films, pairs   ->  weights.safetensors, history.jsonl
                               predictions.parquet (film, subject_id, split, label:<name>, prob:<name>): every film of
                               a validation or test patient that has a label
                               metrics.json, tables.json
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import nn

from fusionctl import distributed, loop, metrics
from fusionctl.checkpoint import CHECKPOINT, write_weights
from fusionctl.data import guards, splits
from fusionctl.data.film_batch import RADIOLOGY, FilmBatch, FilmData, Uncertain, collate_films
from fusionctl.disclosure import shown, small, tells_small
from fusionctl.errors import InputError
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.init import initialise
from fusionctl.report.tables import Table, percent, with_interval
from fusionctl.settings import PretrainCxrSettings, Runtime
from fusionctl.workdir import Artifact, Draft

RESAMPLES = 1000  # of the patients whose films are scored, as in the paper
_BY_PROTOCOL: dict[str, Uncertain] = {"paper": "ignore", "legacy": "zero"}
_METRICS = {"auroc": "AUROC (95 % interval)", "auprc": "AUPRC (95 % interval)"}
_MEAN = "mean of the labels"


class _Films(nn.Module):
    """The encoder with its own head, as the loop wants it."""

    def __init__(self, cxr: CxrEncoder) -> None:
        super().__init__()
        self.cxr = cxr

    def forward(self, batch: FilmBatch) -> Output:
        return Output(self.cxr(batch.films))


def run(draft: Draft, settings: PretrainCxrSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Train, keep the best epoch, and score the films of validation and test patients.

    Radiology: a tenth of the training patients chooses the epoch (`val` in metrics.json), so that no film of a
    validation or test patient has a part in the encoder. A task: the films of the validation stays choose it.

    Raises:
        InputError: there are no films to train on, the data are of another task, or `--init` does not fit.
        LeakError: the preprocessed data break a rule of the splits or of time.
        Interrupted: a signal came; the same call goes on from the checkpoint.
    """
    preprocess: Artifact = inputs["preprocess"]
    guards.check_preprocessed(preprocess.path)
    data = FilmData.open(preprocess.path, uncertain=_uncertain(settings, preprocess), task=settings.task)
    train_rows, val_rows = _choose(data, settings.task)
    model, read = _Films(_encoder(data, settings, inputs, runtime)), partial(collate_films, data)
    history = loop.fit(
        draft.path,
        model,
        loop.Course(
            collate=read,
            train_rows=train_rows,
            val_rows=val_rows,
            val_labels=data.labels[val_rows],
            **settings.training(),
            seed=runtime.seed,
            device=runtime.device,
            progress=runtime.progress,
        ),
    )
    if not distributed.current().leads:
        return
    write_weights(draft.file("weights.safetensors"), model.cxr, config=model.cxr.config)
    logits = loop.predict(model, read, val_rows, batch_size=settings.batch_size, device=runtime.device)
    facts = loop.summary(model.cxr, history, {"val": loop.score(logits, data.labels[val_rows])})
    _test(draft, model, data, facts, settings, runtime)
    draft.rows.update(train=len(train_rows), val=len(val_rows))
    draft.file(CHECKPOINT).unlink(missing_ok=True)


def _uncertain(settings: PretrainCxrSettings, preprocess: Artifact) -> Uncertain:
    """What a label -1 becomes, where nothing was said by the protocol of the data."""
    if settings.uncertain != "auto":
        return settings.uncertain
    return _BY_PROTOCOL[preprocess.setting("protocol") or "paper"]


def _encoder(data: FilmData, settings: PretrainCxrSettings, inputs: Mapping[str, Any], runtime: Runtime) -> CxrEncoder:
    """A new encoder; with `--init` its network starts from that file."""
    torch.manual_seed(loop.mix(runtime.seed))
    names, size = data.label_names, settings.input_size
    encoder = CxrEncoder(settings.arch, len(names), input_size=size, magnitude=settings.augment)
    if inputs.get("init") is not None:
        initialise(encoder, inputs["init"])
    return encoder


def _choose(data: FilmData, task: str) -> tuple[loop.Rows, loop.Rows]:
    """Rows with a known label to train on, all of training patients, and to choose the epoch by."""
    known = ~np.isnan(data.labels).all(axis=1)
    rows = np.flatnonzero((data.split == "train") & known)
    if not len(rows):
        what = "labelled film of a training patient" if task == RADIOLOGY else f"film of a training stay ({task})"
        raise InputError(
            f"there is no {what} to pretrain on",
            hint="films come with --cxr-root at extract; without them use --fusion ehr or trees",
        )
    guards.check_pretraining_films(data.split[rows])
    if task != RADIOLOGY:
        return rows, np.flatnonzero((data.split == "val") & known)
    held_out = splits.inner_validation(data.subject_id[rows])
    return rows[~held_out], rows[held_out]


def _test(
    draft: Draft,
    model: nn.Module,
    data: FilmData,
    facts: dict[str, Any],
    settings: PretrainCxrSettings,
    runtime: Runtime,
) -> None:
    """Predict the labelled films of validation and test patients; predictions.parquet, metrics.json, tables.json."""
    rows = np.flatnonzero((data.split != "train") & ~np.isnan(data.labels).all(axis=1))
    batches, total = count(1), -(-len(rows) // settings.batch_size)
    logits = loop.predict(
        model,
        partial(collate_films, data),
        rows,
        batch_size=settings.batch_size,
        device=runtime.device,
        between=lambda: runtime.progress("films of validation and test patients", next(batches), total),
    ).reshape(len(rows), len(data.label_names))
    _predictions(data, rows, loop.chances(logits)).write_parquet(draft.file("predictions.parquet"))
    for index, (split, key) in enumerate({"val": "val_split", "test": "test"}.items()):
        chosen = data.split[rows] == split
        scores = loop.finite(loop.score(logits[chosen], data.labels[rows[chosen]]))
        facts[key] = scores | _scores(data, rows[chosen], loop.chances(logits[chosen]), seed=(runtime.seed, index))
    draft.write_json("metrics.json", facts)
    draft.write_json("tables.json", [_table(facts["test"], settings.task)])
    draft.rows["predictions"] = len(rows)


def _predictions(data: FilmData, rows: loop.Rows, chances: npt.NDArray[np.float32]) -> pl.DataFrame:
    columns: dict[str, Any] = {name: getattr(data, name)[rows] for name in ("film", "subject_id")}
    columns["split"] = data.split[rows].tolist()
    columns |= {f"label:{name}": data.labels[rows, k] for k, name in enumerate(data.label_names)}
    columns |= {f"prob:{name}": chances[:, k] for k, name in enumerate(data.label_names)}
    return pl.DataFrame(columns, schema_overrides={"split": pl.String})


def _scores(data: FilmData, rows: loop.Rows, chances: npt.NDArray[np.float32], *, seed: tuple[int, ...]) -> Any:
    """Counts, and AUROC and AUPRC of each label and of their mean with intervals; (N, K) probabilities of `rows`."""
    labels, patients = data.labels[rows], data.subject_id[rows]
    boot = metrics.bootstrap(labels, chances, patients, resamples=RESAMPLES, seed=seed)
    known, positives = (~np.isnan(labels)).sum(axis=0).tolist(), (labels == 1).sum(axis=0).tolist()
    by_label = {
        name: {"n": known[k], "positives": positives[k], **_intervals(boot, k)}
        for k, name in enumerate(data.label_names)
    }
    facts = {"films": len(rows), "patients": len(np.unique(patients)), "resamples": RESAMPLES}
    return {**facts, "labels": by_label, "mean": _intervals(boot)}


def _intervals(boot: metrics.Bootstrap, label: int = -1) -> dict[str, dict[str, float | None]]:
    interval = boot.interval(0, label)
    return {metric: loop.finite(interval[metric]) for metric in _METRICS}


def _table(test: Mapping[str, Any], task: str) -> Table:
    """The results on test films as `{title, header, rows}` of texts; small counts are hidden."""
    few = small(test["patients"])
    rows = []
    for name, entry in test["labels"].items():
        n, positives = entry["n"], entry["positives"]
        share = percent(positives / n) if n and not tells_small(positives, n - positives) else "–"
        rows.append([name, shown(n), share, *("–" if few else with_interval(entry[metric]) for metric in _METRICS)])
    if len(rows) > 1:
        rows.append([_MEAN, "", "", *("–" if few else with_interval(test["mean"][metric]) for metric in _METRICS)])
    counts = f"{shown(test['films'])} films, {shown(test['patients'])} patients"
    title = f"{task}: films of test patients ({counts}), 95 % intervals from {RESAMPLES:,} resamples of patients"
    return {"title": title, "header": ["label", "n", "prevalence", *_METRICS.values()], "rows": rows}
