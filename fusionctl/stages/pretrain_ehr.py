"""`pretrain-ehr`: train the time-series encoder on the task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from fusionctl import distributed, loop
from fusionctl.checkpoint import CHECKPOINT, write_weights
from fusionctl.data import guards
from fusionctl.data.batch import N_VALUE_COLUMNS, StayData, collate
from fusionctl.fusion.unimodal import EhrOnly
from fusionctl.models.ehr import EhrEncoder
from fusionctl.settings import PretrainEhrSettings, Runtime
from fusionctl.workdir import Draft


def run(draft: Draft, settings: PretrainEhrSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write weights.safetensors (the best epoch's), history.jsonl and metrics.json.

    Raises:
        LeakError: the preprocessed data break a rule of the splits or of time.
        Interrupted: a signal came; the same call goes on from the checkpoint.
    """
    data = StayData.open(inputs["preprocess"].path)
    guards.check_preprocessed(inputs["preprocess"].path)
    torch.manual_seed(loop.mix(runtime.seed))
    encoder = EhrEncoder(
        n_outputs=len(data.label_names),
        arch=settings.arch,
        hidden=settings.hidden,
        layers=settings.layers,
        heads=settings.heads,
        dropout=settings.dropout,
        pool=settings.pool,
        n_running=N_VALUE_COLUMNS if settings.running else 0,
        since_seen=settings.since_seen,
        summary=settings.summary,
        input_dropout=settings.input_dropout,
        step_hours=inputs["preprocess"].setting("timestep") or 2.0,
    )
    model = EhrOnly(encoder, None, len(data.label_names), options={})
    read = partial(collate, data, films=False)
    rows = {split: data.rows_of(split) for split in ("train", "val", "test")}
    history = loop.fit(
        draft.path,
        model,
        loop.Course(
            collate=read,
            train_rows=rows["train"],
            val_rows=rows["val"],
            val_labels=data.labels[rows["val"]],
            lengths=data.n_rows,
            **settings.training(),
            seed=runtime.seed,
            device=runtime.device,
            progress=runtime.progress,
        ),
    )
    if not distributed.current().leads:
        return
    write_weights(draft.file("weights.safetensors"), encoder, config=encoder.config)
    results, sizes = {}, {"batch_size": settings.batch_size, "device": runtime.device, "lengths": data.n_rows}
    for split in ("val", "test"):
        logits = loop.predict(model, read, rows[split], **sizes)
        results[split] = loop.score(logits, data.labels[rows[split]])
    draft.write_json("metrics.json", loop.summary(encoder, history, results))
    draft.rows.update({split: len(chosen) for split, chosen in rows.items()})
    draft.file(CHECKPOINT).unlink(missing_ok=True)
