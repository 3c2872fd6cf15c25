"""`pretrain-cxr`: train the film encoder on the 14 radiology labels, on films of training patients only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from fusionctl import loop
from fusionctl.checkpoint import CHECKPOINT, write_weights
from fusionctl.data import guards, splits
from fusionctl.data.film_batch import FilmBatch, FilmData, collate_films
from fusionctl.errors import InputError
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.settings import PretrainCxrSettings, Runtime
from fusionctl.workdir import Draft


class _Radiology(nn.Module):
    """The encoder with its own head, as the loop wants it."""

    def __init__(self, cxr: CxrEncoder) -> None:
        super().__init__()
        self.cxr = cxr

    def forward(self, batch: FilmBatch) -> Output:
        return Output(self.cxr(batch.films))


def run(draft: Draft, settings: PretrainCxrSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write weights.safetensors (the best epoch's), history.jsonl and metrics.json.

    The epoch is chosen on a tenth of the training patients: a film of a validation or test patient takes no part.

    Raises:
        InputError: there are no films of training patients.
        LeakError: a film of another patient is in the set.
        Interrupted: a signal came; the same call goes on from the checkpoint.
    """
    data = FilmData.open(inputs["preprocess"].path)
    train_rows, val_rows = _choose(data)
    torch.manual_seed(loop.mix(runtime.seed))
    encoder = CxrEncoder(
        settings.arch, len(data.label_names), input_size=settings.input_size, magnitude=settings.augment
    )
    model, read = _Radiology(encoder), partial(collate_films, data)
    history = loop.fit(
        draft.path,
        model,
        read,
        train_rows=train_rows,
        val_rows=val_rows,
        val_labels=data.labels[val_rows],
        **settings.training(),
        seed=runtime.seed,
        device=runtime.device,
        progress=runtime.progress,
    )
    write_weights(draft.file("weights.safetensors"), encoder, config=encoder.config)
    logits = loop.predict(model, read, val_rows, batch_size=settings.batch_size, device=runtime.device)
    results = {"val": loop.score(logits, data.labels[val_rows])}
    draft.write_json("metrics.json", loop.summary(encoder, history, results))
    draft.rows.update(train=len(train_rows), val=len(val_rows))
    draft.file(CHECKPOINT).unlink(missing_ok=True)


def _choose(data: FilmData) -> tuple[loop.Rows, loop.Rows]:
    """Rows of films to train on and to validate on, both of training patients that have a known label."""
    rows = np.flatnonzero((data.split == "train") & ~np.isnan(data.labels).all(axis=1))
    if not len(rows):
        raise InputError(
            "there is no labelled film of a training patient to pretrain on",
            hint="films come with --cxr-root at extract; without them use --fusion ehr or trees",
        )
    guards.check_pretraining_films(data.split[rows])
    held_out = splits.inner_validation(data.subject_id[rows])
    return rows[~held_out], rows[held_out]
