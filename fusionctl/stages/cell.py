"""Stage `cell`: what one model predicts for the test stays under one corruption, a point of a robustness sweep.

    preprocess, fuse (weights of one model)  ->  probabilities.npy

(N, K) float32, the test stays in the order of samples.parquet; NaN where the model has no prediction. A sweep makes
many cells in one process: the data stay open, models loaded, and the last corrupted input in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from fusionctl import fusion, loop
from fusionctl.corruptions import Background, build
from fusionctl.data.batch import Batch, StayData, collate
from fusionctl.errors import InputError
from fusionctl.settings import CellSettings, Runtime
from fusionctl.workdir import Artifact, Draft

Rows = npt.NDArray[np.int64]

BATCH = 64  # stays read, corrupted and predicted at a time
MOST_MODELS = 16  # kept loaded
MOST_BYTES = 1 << 30  # of one corrupted input kept for the next model; a larger one is corrupted anew for each


def run(draft: Draft, settings: CellSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write probabilities.npy.

    Raises:
        InputError: there is no test stay.
    """
    source: Artifact = inputs["preprocess"]
    kept, key = {} if runtime.kept is None else runtime.kept, ("cell", source.id, runtime.seed)
    if key not in kept:
        kept[key] = Desk(source, runtime.seed)
    desk: Desk = kept[key]
    model: Any = desk.model(inputs["fuse"], runtime.device)
    n_done = 0

    def tick() -> None:
        nonlocal n_done
        n_done = min(n_done + BATCH, len(desk.rows))
        runtime.progress(f"{settings.corruption} {settings.level:.0%}", n_done, len(desk.rows))

    logits = loop.predict(
        model,
        desk.reader(settings, model.modalities),
        desk.rows,
        batch_size=BATCH,
        device=runtime.device,
        between=tick,
        lengths=desk.data.n_rows,
    )
    np.save(draft.file("probabilities.npy"), loop.chances(logits))
    draft.rows["probabilities"] = len(desk.rows)


class Desk:
    """What the cells of one data set share.

    Args:
        source: the preprocess artifact.
        seed: of the corruptions.

    Raises:
        InputError: there is no test stay.
    """

    def __init__(self, source: Artifact, seed: int) -> None:
        self.data = StayData.open(source.path)
        self.rows = self.data.rows_of("test")
        if not len(self.rows):
            raise InputError(
                f"preprocess/{source.id}: no stay is in the test split, so there is nothing to evaluate",
                hint="use more patients: fusionctl synth --stays 600 makes enough",
            )
        self._background = Background(
            self.data,
            source.path,
            impute=source.setting("impute") or "previous",  # earlier artifacts do not name what had no choice
            protocol=source.setting("protocol") or "paper",
            view=source.setting("film_view") or "AP",
            seed=seed,
        )
        self._models: dict[str, nn.Module] = {}
        self._input = Input(CellSettings(), ())

    def model(self, artifact: Artifact, device: str) -> nn.Module:
        """A model on its device, loaded once."""
        if artifact.id not in self._models:
            while len(self._models) >= MOST_MODELS:
                del self._models[next(iter(self._models))]
            self._models[artifact.id] = fusion.load(artifact.file("weights.safetensors")).to(device)
        return self._models[artifact.id]

    def reader(self, settings: CellSettings, reads: Sequence[str]) -> Callable[[Rows], Batch]:
        """Reads and corrupts the batches of rows, for a model that reads these modalities.

        What was read for the model before is used again where this one meets the same.
        """
        if not self._input.serves(settings, reads):
            self._input = Input(settings, reads)
        corruption = build(
            settings.corruption,
            self._background,
            level=settings.level,
            kind=settings.kind,
            modality=settings.modality,
        )
        return partial(self._input.batch, partial(collate, self.data, films="cxr" in reads, corruption=corruption))


class Input:
    """The batches of all test stays under one corruption, as far as memory allows.

    Args:
        settings: the corruption.
        reads: modalities of the model that they are read for.
    """

    def __init__(self, settings: CellSettings, reads: Sequence[str]) -> None:
        self._settings, self._reads = settings, reads
        self._batches: dict[int, Batch] = {}
        self._bytes = 0

    def serves(self, settings: CellSettings, reads: Sequence[str]) -> bool:
        """Whether a model finds here what it reads: what is wrong with another modality does not concern it."""
        here = self._settings.modality
        same = replace(self._settings, modality=settings.modality) == settings
        covers = here == settings.modality or (here == "both" and tuple(reads) == (settings.modality,))
        return same and covers and set(reads) <= set(self._reads)

    def batch(self, read: Callable[[Rows], Batch], rows: Rows) -> Batch:
        """The batch of some rows, read where it is not kept. A pass reads every row once, in the same batches."""
        first = int(rows[0])
        if first in self._batches:
            return self._batches[first]
        batch = read(rows)
        self._bytes += batch.films.nbytes + batch.series.nbytes
        if self._bytes <= MOST_BYTES:
            self._batches[first] = batch
        return batch
