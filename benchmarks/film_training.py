#!/usr/bin/env python3
"""Film training: how fast augmented batches are made, and how much of an epoch is spent waiting for them.

    python benchmarks/film_training.py
    python benchmarks/film_training.py --films 64 --rounds 1 --epoch-films 64     a quick look

Batches: one thread, on the CPU; films.npy (256 pixels, 8 bits, memory-mapped) to a normalised 224 pixel batch, against
torchvision's v2 transforms with the same ranges on PIL images that are in memory already, colour as in the reference
code. Ours interpolates; torchvision is measured with the nearest pixel, its default and that of the reference code, and
interpolating.

Waiting: one epoch of a ResNet-18 on 96 pixel films, after one to warm up, with as many threads as PyTorch takes. What
counts as waiting is reading the batches, and, to be strict, augmenting them too.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from fusionctl import loop
from fusionctl.data.film_batch import FilmBatch, FilmData, collate_films
from fusionctl.fusion.output import Output
from fusionctl.models import augment, cxr

SIDE, CROP, BATCH = 256, 224, 32
LABELS = 14
TARGET_RATIO, TARGET_WAITING = 4.0, 0.03


def write_films(folder: Path, n: int, seed: int = 0) -> FilmData:
    """Films of blurred noise in films.npy, each with random labels, all of training patients."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, 1, 32, 32), dtype=np.float32))
    films = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1) * 255
    np.save(folder / "films.npy", films[:, 0].to(torch.uint8).numpy())
    return FilmData(
        film=np.arange(n, dtype=np.int32),
        subject_id=np.arange(n),
        split=np.full(n, "train"),
        labels=rng.integers(0, 2, (n, LABELS)).astype(np.float32),
        label_names=tuple(f"label {k}" for k in range(LABELS)),
        films=np.load(folder / "films.npy", mmap_mode="r"),
    )


def torchvision_transform(interpolation: v2.InterpolationMode = v2.InterpolationMode.NEAREST) -> v2.Compose:
    """The same augmentation as `augment.prepare` does, in torchvision's transforms."""
    return v2.Compose(
        [
            v2.Resize(SIDE),
            v2.RandomHorizontalFlip(augment.FLIP_PROBABILITY),
            v2.RandomAffine(
                degrees=augment.ROTATION_DEGREES,
                translate=(augment.TRANSLATION, augment.TRANSLATION),
                scale=(1 - augment.SCALE, 1 + augment.SCALE),
                shear=augment.SHEAR_DEGREES,
                interpolation=interpolation,
            ),
            v2.RandomCrop(CROP),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(augment.IMAGENET_MEAN, augment.IMAGENET_SD),
        ]
    )


def seconds_a_film(make: Callable[[Any], Tensor], n: int) -> float:
    """Seconds that it takes to make one film's input, over all batches of n films in random order."""
    order = np.random.default_rng(0).permutation(n)
    started = time.perf_counter()
    for start in range(0, n, BATCH):
        make(order[start : start + BATCH])
    return (time.perf_counter() - started) / n


def batch_times(data: FilmData, rounds: int) -> dict[str, float]:
    """Median seconds a film by way, the ways taking turns so that a busy machine slows them alike."""
    images = [Image.fromarray(film).convert("RGB") for film in data.films]

    def by_torchvision(transform: v2.Compose, rows: Any) -> Tensor:
        return torch.stack([transform(images[row]) for row in rows])

    def ours(rows: Any) -> Tensor:
        return augment.prepare(collate_films(data, rows).films, input_size=CROP, train=True)

    ways: dict[str, Callable[[Any], Tensor]] = {
        "ours": ours,
        "nearest": partial(by_torchvision, torchvision_transform()),
        "bilinear": partial(by_torchvision, torchvision_transform(v2.InterpolationMode.BILINEAR)),
    }
    for make in ways.values():
        make(np.arange(min(BATCH, len(images))))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, make in ways.items():
            taken[name].append(seconds_a_film(make, len(images)))
    return {name: statistics.median(times) for name, times in taken.items()}


class Films(nn.Module):
    """The encoder as the training loop wants it."""

    def __init__(self, encoder: cxr.CxrEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: FilmBatch) -> Output:
        """Logits of a batch."""
        return Output(self.encoder(batch.films))


class Clock:
    """Adds up the seconds inside a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """Call the function and count the time."""
        started = time.perf_counter()
        try:
            return self.function(*positional, **named)
        finally:
            self.seconds += time.perf_counter() - started


def waiting(data: FilmData) -> tuple[float, float, float]:
    """Seconds of an epoch, and of it those for reading batches and for augmenting them."""
    logging.getLogger("fusionctl").addHandler(logging.NullHandler())  # no validation: the loop would warn
    read, prepare = Clock(partial(collate_films, data)), Clock(cxr.prepare)
    cxr.prepare = prepare
    try:
        course = loop.Course(
            collate=read,
            train_rows=np.arange(len(data.film)),
            val_rows=np.arange(0),
            val_labels=data.labels[:0],
            epochs=2,
            batch_size=BATCH,
            lr=1e-3,
            patience=2,
        )
        epochs = loop.train(Films(cxr.CxrEncoder("resnet18", LABELS, input_size=96)), course)
        next(epochs)
        read.seconds = prepare.seconds = 0.0
        started = time.perf_counter()
        next(epochs)
        return time.perf_counter() - started, read.seconds, prepare.seconds
    finally:
        cxr.prepare = prepare.function


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table: figure, measured, target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=512, help="films in a round of batches (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (%(default)s)")
    parser.add_argument("--epoch-films", type=int, default=512, help="films in the measured epoch (%(default)s)")
    arguments = parser.parse_args(argv)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        data = write_films(Path(folder), max(arguments.films, arguments.epoch_films))
        torch.set_num_threads(1)
        try:
            times = batch_times(first(data, arguments.films), arguments.rounds)
        finally:
            torch.set_num_threads(threads)
        epoch, reading, augmenting = waiting(first(data, arguments.epoch_films))
    rows = [
        ("224 px batches, ours: ms a film", f"{times['ours'] * 1e3:.2f}", ""),
        ("torchvision v2 on PIL, nearest: ms a film", f"{times['nearest'] * 1e3:.2f}", ""),
        ("torchvision v2 on PIL, bilinear: ms a film", f"{times['bilinear'] * 1e3:.2f}", ""),
        ("times faster than nearest", f"{times['nearest'] / times['ours']:.1f}", f">= {TARGET_RATIO:g}"),
        ("times faster than bilinear", f"{times['bilinear'] / times['ours']:.1f}", f">= {TARGET_RATIO:g}"),
        (f"an epoch of {arguments.epoch_films} films, {threads} threads: s", f"{epoch:.1f}", ""),
        ("share of it reading batches", f"{reading / epoch:.2%}", f"<= {TARGET_WAITING:.0%}"),
        ("reading and augmenting", f"{(reading + augmenting) / epoch:.2%}", f"<= {TARGET_WAITING:.0%}"),
    ]
    for row in [("figure", "measured", "target"), *rows]:
        print(f"{row[0]:<46}{row[1]:>10}{row[2]:>10}")


def first(data: FilmData, n: int) -> FilmData:
    """The first n films."""
    rows = slice(0, n)
    return FilmData(
        data.film[rows], data.subject_id[rows], data.split[rows], data.labels[rows], data.label_names, data.films[rows]
    )


if __name__ == "__main__":
    main()
