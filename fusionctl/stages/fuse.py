"""`fuse`: train a model on the task from the encoders, and predict every validation and test stay."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from fusionctl import distributed, fusion, loop, losses, tabular
from fusionctl.checkpoint import CHECKPOINT, load_into, read
from fusionctl.corruptions import statistics
from fusionctl.data import guards
from fusionctl.data.batch import N_VALUE_COLUMNS, StayData, collate
from fusionctl.data.variables import CHEXPERT_LABELS
from fusionctl.errors import InputError, UsageError
from fusionctl.fusion.film_scores import FilmScores
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder
from fusionctl.noise import Noise
from fusionctl.settings import FuseSettings, Runtime
from fusionctl.workdir import Artifact, Draft

ENCODERS: dict[str, Any] = {"ehr": EhrEncoder, "cxr": CxrEncoder}
# Settings that the methods read under the same name; each takes those that it knows.
OPTIONS = ("dropout", "contrast_epochs", "temperature", "card_steps", "card_samples")
Floats = npt.NDArray[np.float32]


def run(draft: Draft, settings: FuseSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write predictions.parquet and metrics.json; of a network also weights.safetensors and history.jsonl.

    predictions.parquet has one row for every validation and test stay, whatever the model, sorted by stay_id:
    stay_id, subject_id, split, has_film, and `label:<name>` and `prob:<name>` of each label. A probability is NaN where
    the model has no prediction (`cxr`: a stay without a film). Of a model that samples its predictions, `sd:<name>` is
    the standard deviation of the samples.

    Raises:
        InputError: an encoder that the model needs was not given, or does not fit.
        LeakError: the preprocessed data break a rule of the splits or of time.
        Interrupted: a signal came; the same call goes on from the checkpoint.
    """
    data = StayData.open(inputs["preprocess"].path)
    guards.check_preprocessed(inputs["preprocess"].path)
    rows = np.flatnonzero(data.split != "train")
    predict = _tabular if settings.fusion in tabular.TABULAR else _network
    found, facts = predict(draft, settings, inputs, data, rows, runtime)
    if not distributed.current().leads:
        return
    logits = found["logits"]
    for split in ("val", "test"):
        chosen = data.split[rows] == split
        facts[split] = loop.finite(loop.score(logits[chosen], data.labels[rows[chosen]]))
    draft.write_json("metrics.json", facts)
    table = _predictions(data, rows, loop.chances(logits), found.get("spread"))
    table.write_parquet(draft.file("predictions.parquet"))
    draft.rows.update(predictions=len(table), train=len(data.rows_of("train")))
    draft.file(CHECKPOINT).unlink(missing_ok=True)


def _network(
    draft: Draft, settings: FuseSettings, inputs: Mapping[str, Any], data: StayData, rows: loop.Rows, runtime: Runtime
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Train, write weights and history; what the model gives for `rows`, and the first part of metrics.json."""
    method = fusion.FUSIONS[settings.fusion]
    torch.manual_seed(loop.mix(runtime.seed))
    ehr, cxr = (_encoder(name, settings, inputs, data) if name in method.modalities else None for name in ENCODERS)
    model = fusion.build(settings.fusion, ehr, cxr, len(data.label_names), options=_options(settings, inputs))
    batches = partial(collate, data, films="cxr" in method.modalities, corruption=_noise(settings, data, runtime.seed))
    train_rows, val_rows = (data.rows_of(split, with_film=method.needs_film) for split in ("train", "val"))
    loss = losses.build(settings.loss, data.labels[train_rows])
    course = loop.Course(
        collate=batches,
        train_rows=train_rows,
        val_rows=val_rows,
        val_labels=data.labels[val_rows],
        lengths=data.n_rows if "ehr" in method.modalities else None,
        film_dropout=settings.film_dropout if len(method.modalities) > 1 else 0.0,
        **settings.training(),
        loss_lr=settings.loss_lr,
        seed=runtime.seed,
        device=runtime.device,
        progress=runtime.progress,
    )
    history = loop.fit(draft.path, model, course, loss=loss)
    if not distributed.current().leads:
        return {}, {}
    draft.facts["precision"] = "bf16" if course.bf16 else "float32"
    gather = partial(loop.gather, batch_size=course.batch_size, device=course.device, lengths=course.lengths)
    late: Any = model
    if hasattr(late, "settle"):
        parts = gather(late.parts, batches, val_rows)
        late.settle({n: torch.from_numpy(part) for n, part in parts.items()}, torch.from_numpy(course.val_labels))
    fusion.save(draft.file("weights.safetensors"), model)
    facts = loop.summary(model, history, {}, loss=loss)
    if hasattr(late, "settle"):
        facts["series_weight"] = dict(zip(data.label_names, late.weight.tolist(), strict=True))
    if isinstance(loss, losses.Uncertainty):
        facts["sigmas"] = dict(zip(data.label_names, loss.sigmas(), strict=True))
    return gather(partial(_outputs, model), batches, rows), facts


def _noise(settings: FuseSettings, data: StayData, seed: int) -> Noise | None:
    """What corrupts all samples, of training as of validation and test (paper, section V-G); None without noise."""
    if not settings.train_noise:
        return None
    kind, modality = settings.noise_kind, settings.noise_modality
    return Noise(statistics(data, seed), level=settings.train_noise, kind=kind, modality=modality, seed=seed)


def _outputs(model: Any, batch: Any) -> dict[str, torch.Tensor]:
    output = model(batch)
    return {"logits": output.logits, **({} if output.spread is None else {"spread": output.spread})}


def _options(settings: FuseSettings, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The methods' options: one mapping for all of them."""
    absent = settings.absent
    if absent == "auto":
        absent = "zero" if inputs["preprocess"].setting("protocol") == "legacy" else "mask"
    return {"absent": absent, **{name: getattr(settings, name) for name in OPTIONS}}


def _encoder(name: str, settings: FuseSettings, inputs: Mapping[str, Any], data: StayData) -> Any:
    """A pretrained encoder, or with `--from-scratch` a random one."""
    if settings.from_scratch:
        return _SCRATCH[name](inputs, data)
    return _pretrained(name, inputs)


def _pretrained(name: str, inputs: Mapping[str, Any]) -> Any:
    """The encoder of a pretraining artifact.

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


def _random_ehr(inputs: Mapping[str, Any], data: StayData) -> EhrEncoder:
    """As `pretrain-ehr` would build it."""
    values = dict(inputs["settings"]["pretrain-ehr"])
    n_running = N_VALUE_COLUMNS if values.pop("running") else 0
    step_hours = inputs["preprocess"].setting("timestep") or 2.0
    return EhrEncoder(n_outputs=len(data.label_names), n_running=n_running, step_hours=step_hours, **values)


def _random_cxr(inputs: Mapping[str, Any], data: StayData) -> CxrEncoder:
    """As `run` would have `pretrain-cxr` build it: with a head for the 25 labels, or for the radiology labels."""
    values = dict(inputs["settings"]["pretrain-cxr"])
    magnitude = values.pop("augment")
    n_outputs = len(data.label_names) if len(data.label_names) > 1 else len(CHEXPERT_LABELS)
    return CxrEncoder(n_outputs=n_outputs, magnitude=magnitude, **values)


_SCRATCH: dict[str, Any] = {"ehr": _random_ehr, "cxr": _random_cxr}


def _tabular(
    draft: Draft, settings: FuseSettings, inputs: Mapping[str, Any], data: StayData, rows: loop.Rows, runtime: Runtime
) -> tuple[dict[str, Floats], dict[str, Any]]:
    """Logits of `rows` by a model of tables, and the first part of metrics.json.

    Raises:
        UsageError: noise was asked for.
    """
    if settings.train_noise:
        raise UsageError(f"--train-noise {settings.train_noise:g}: {settings.fusion} takes none; rule: for networks")
    if not distributed.current().leads:
        return {}, {}
    features = tabular.summarise(data.values, data.observed, data.first_row, data.n_rows)
    if settings.fusion in tabular.WITH_FILM:
        features = np.concatenate([features, _film_scores(settings, inputs, data, runtime)], axis=1)
    chances = tabular.fit_predict(settings.fusion, features, data.labels, data.rows_of("train"), seed=runtime.seed)[
        rows
    ]
    facts = {"features": features.shape[1]}
    return {"logits": np.log(chances / (1 - chances)).astype(np.float32)}, facts


def _film_scores(
    settings: FuseSettings, inputs: Mapping[str, Any], data: StayData, runtime: Runtime
) -> npt.NDArray[np.float64]:
    """(N, C) logits of the pretrained film encoder's head for every stay; NaN where it has no film."""
    model = FilmScores(_pretrained("cxr", inputs)).to(runtime.device)
    every = np.arange(len(data))
    scores = loop.predict(model, partial(collate, data), every, batch_size=settings.batch_size, device=runtime.device)
    return scores.astype(np.float64)


def _predictions(data: StayData, rows: loop.Rows, probabilities: Floats, spread: Floats | None) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "stay_id": data.stay_id[rows],
        "subject_id": data.subject_id[rows],
        "split": data.split[rows].tolist(),
        "has_film": data.film[rows] >= 0,
    }
    for k, name in enumerate(data.label_names):
        columns |= {f"label:{name}": data.labels[rows, k], f"prob:{name}": probabilities[:, k]}
        if spread is not None:
            columns[f"sd:{name}"] = spread[:, k]
    return pl.DataFrame(columns).sort("stay_id")
