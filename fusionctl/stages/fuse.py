"""`fuse`: train a model on the task from the pretrained encoders, and predict every validation and test stay."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from fusionctl import fusion, loop, trees
from fusionctl.checkpoint import CHECKPOINT, load_into, read
from fusionctl.data import guards
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import InputError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder
from fusionctl.settings import FuseSettings, Runtime
from fusionctl.workdir import Artifact, Draft

ENCODERS: dict[str, Any] = {"ehr": EhrEncoder, "cxr": CxrEncoder}


def run(draft: Draft, settings: FuseSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write predictions.parquet and metrics.json; of a network also weights.safetensors and history.jsonl.

    predictions.parquet has one row for every validation and test stay, whatever the model, sorted by stay_id:
    stay_id, subject_id, split, has_film, and `label:<name>` and `prob:<name>` of each label. A probability is NaN where
    the model has no prediction (`cxr`: a stay without a film).

    Raises:
        InputError: an encoder that the model needs was not given, or does not fit.
        LeakError: the preprocessed data break a rule of the splits or of time.
        Interrupted: a signal came; the same call goes on from the checkpoint.
    """
    data = StayData.open(inputs["preprocess"].path)
    guards.check_preprocessed(inputs["preprocess"].path)
    rows = np.flatnonzero(data.split != "train")
    if settings.fusion == "trees":
        logits, facts = _trees(data, rows, runtime)
    else:
        logits, facts = _network(draft, settings, inputs, data, rows, runtime)
    probabilities = loop.chances(logits)
    for split in ("val", "test"):
        chosen = data.split[rows] == split
        facts[split] = loop.finite(loop.score(logits[chosen], data.labels[rows[chosen]]))
    draft.write_json("metrics.json", facts)
    table = _predictions(data, rows, probabilities)
    table.write_parquet(draft.file("predictions.parquet"))
    draft.rows.update(predictions=len(table), train=len(data.rows_of("train")))
    draft.file(CHECKPOINT).unlink(missing_ok=True)


def _network(
    draft: Draft, settings: FuseSettings, inputs: Mapping[str, Any], data: StayData, rows: loop.Rows, runtime: Runtime
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Train, write weights and history; logits of `rows`, and the first part of metrics.json."""
    method = fusion.FUSIONS[settings.fusion]
    torch.manual_seed(loop.mix(runtime.seed))
    ehr, cxr = (_encoder(name, inputs) if name in method.modalities else None for name in ENCODERS)
    model = fusion.build(settings.fusion, ehr, cxr, len(data.label_names), options={"dropout": settings.dropout})
    batches = partial(collate, data, films="cxr" in method.modalities)
    val_rows = data.rows_of("val", with_film=method.needs_film)
    history = loop.fit(
        draft.path,
        model,
        batches,
        train_rows=data.rows_of("train", with_film=method.needs_film),
        val_rows=val_rows,
        val_labels=data.labels[val_rows],
        **settings.training(),
        seed=runtime.seed,
        device=runtime.device,
        progress=runtime.progress,
    )
    fusion.save(draft.file("weights.safetensors"), model)
    logits = loop.predict(model, batches, rows, batch_size=settings.batch_size, device=runtime.device)
    return logits, loop.summary(model, history, {})


def _encoder(name: str, inputs: Mapping[str, Any]) -> Any:
    """A pretrained encoder.

    Raises:
        InputError: it was not given, or its weights do not fit its description.
    """
    artifact: Artifact | None = inputs.get(f"pretrain-{name}")
    if artifact is None:
        raise InputError(
            f"fuse reads the artifact of pretrain-{name}, and there is none",
            hint=f"run first: fusionctl pretrain-{name}",
        )
    path = artifact.file("weights.safetensors")
    tensors, config = read(path)
    encoder = ENCODERS[name](**config)
    load_into(encoder, tensors, path)
    return encoder


def _trees(data: StayData, rows: loop.Rows, runtime: Runtime) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Logits of `rows` by the boosted trees, and the first part of metrics.json."""
    features = trees.summarise(data.values, data.observed, data.first_row, data.n_rows)
    chances = trees.fit_predict(features, data.labels, data.rows_of("train"), seed=runtime.seed)[rows]
    return np.log(chances / (1 - chances)).astype(np.float32), {"features": features.shape[1]}


def _predictions(data: StayData, rows: loop.Rows, probabilities: npt.NDArray[np.float32]) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "stay_id": data.stay_id[rows],
        "subject_id": data.subject_id[rows],
        "split": data.split[rows].tolist(),
        "has_film": data.film[rows] >= 0,
    }
    for k, name in enumerate(data.label_names):
        columns |= {f"label:{name}": data.labels[rows, k], f"prob:{name}": probabilities[:, k]}
    return pl.DataFrame(columns).sort("stay_id")
