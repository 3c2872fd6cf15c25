#!/usr/bin/env python3
"""The training loop against a bare loop of the same model: what reading, order, checks and progress cost.

    python benchmarks/train.py
    python benchmarks/train.py --rounds 1 --steps 3       a quick look
    python benchmarks/train.py --device cuda              also the paper's model, at batches of 16 and of 256

Ours is `loop.train` as the stages call it: batches read from memory-mapped files in an order drawn anew, one epoch a
round. The bare loop has its batches in memory already, on the device, and does forward, loss, backward and Adam's step,
in the same precision. Both take turns, so that a busy machine slows them alike, and the median round counts.

Data are made here: stays of 24 rows, three quarters of them with a film of 256 pixels.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fusionctl import fusion, loop, losses
from fusionctl.data.batch import StayData, collate
from fusionctl.data.variables import VARIABLES
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

SIDE, ROWS = 256, 24  # of the paper: films of 256 pixels, 48 hours of 2
WITH_FILM = 0.75
TARGET = {"cpu": 0.95, "cuda": 0.9}
# (film encoder, its input in pixels, width of the series' encoder, rows a step)
SMALL = ("resnet18", 96, 64, 16)
PAPER = (("resnet34", 224, 256, 16), ("resnet34", 224, 256, 256))


def make_stays(folder: Path, n: int, seed: int = 0) -> StayData:
    """Stays of noise, with random labels, on disk as a preprocess artifact has them."""
    rng = np.random.default_rng(seed)
    has_film = np.arange(n) < round(WITH_FILM * n)
    film = np.where(has_film, np.cumsum(has_film) - 1, -1)
    values = np.stack([np.full(n * ROWS, v.normal_value, np.float32) for v in VARIABLES], axis=1)
    arrays = {
        "values": values + np.where([v.is_categorical for v in VARIABLES], 0, rng.normal(size=values.shape)),
        "observed": rng.random(values.shape) < 0.5,
        "films": rng.integers(0, 256, (int(has_film.sum()), SIDE, SIDE), dtype=np.uint8),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype(np.float32) if name == "values" else array)
    hours = np.full(n, 48.0)
    return StayData(
        stay_id=np.arange(n),
        subject_id=np.arange(n),
        split=np.full(n, "train"),
        first_row=np.arange(n) * ROWS,
        n_rows=np.full(n, ROWS),
        film=film,
        pair_film=np.arange(len(arrays["films"])),
        pair_first=np.maximum(film, 0),
        n_films=has_film.astype(np.int64),
        labels=rng.integers(0, 2, (n, 1)).astype(np.float32),
        label_names=("mortality",),
        **{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays},
        normaliser={"mean": [0.0] * len(VARIABLES), "sd": [1.0] * len(VARIABLES)},
        last_event_hours=hours,
        film_hours=hours,
        window_hours=hours,
    )


def make_model(setting: tuple[str, int, int, int]) -> nn.Module:
    """The attention fusion."""
    arch, input_size, hidden, _ = setting
    torch.manual_seed(0)
    encoders = EhrEncoder(hidden=hidden), CxrEncoder(arch, input_size=input_size)
    return fusion.build("attention", *encoders, 1, options={"dropout": 0.1})


def ours(data: StayData, setting: tuple[str, int, int, int], device: str) -> Generator[None, None, None]:
    """Train by `loop.train`, an epoch each time."""
    rows = np.random.default_rng(0).permutation(len(data))
    course = loop.Course(
        collate=partial(collate, data),
        train_rows=rows,
        val_rows=rows[:0],
        val_labels=data.labels[:0],
        epochs=10**6,
        patience=10**6,
        batch_size=setting[-1],
        lr=1e-4,
        precision="auto",
        lengths=data.n_rows,
        device=device,
    )
    for _ in loop.train(make_model(setting), course):
        yield None


def bare(data: StayData, setting: tuple[str, int, int, int], device: str) -> Generator[None, None, None]:
    """Train on batches that are on the device already, all of them once each time."""
    order = np.array_split(np.random.default_rng(0).permutation(len(data)), len(data) // setting[-1])
    batches = [collate(data, rows).to(device) for rows in order]
    model = make_model(setting).to(device).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    while True:
        for batch in batches:
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=device != "cpu"):
                output = model(batch)
            value = losses.bce(output.logits.float(), batch.labels)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        yield None


def seconds(way: Generator[None, None, None], device: str) -> float:
    """Of one epoch."""
    wait: Callable[[], Any] = torch.cuda.synchronize if device != "cpu" else lambda: None
    wait()
    started = time.perf_counter()
    next(way)
    wait()
    return time.perf_counter() - started


def compare(data: StayData, setting: tuple[str, int, int, int], *, device: str, rounds: int) -> list[tuple[str, ...]]:
    """Rows of the table: figure, measured, target."""
    arch, input_size, _, batch_size = setting
    ways = {"ours": ours(data, setting, device), "bare": bare(data, setting, device)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first warms up: kernels, memory, the files' pages
        for name, way in ways.items():
            taken[name].append(seconds(way, device))
    steps = len(data) // batch_size
    speed = {name: steps / statistics.median(times[1:]) for name, times in taken.items()}
    what, target = f"{arch} {input_size} px, batch {batch_size}", TARGET[torch.device(device).type]
    rows = [
        (f"{what}, bare loop: steps a second", f"{speed['bare']:.2f}", ""),
        (f"{what}, ours: steps a second", f"{speed['ours']:.2f}", ""),
        (f"{what}, ours: samples a second", f"{speed['ours'] * batch_size:.0f}", ""),
        (f"{what}, ours / bare", f"{speed['ours'] / speed['bare']:.3f}", f">= {target:g}"),
    ]
    if device != "cpu":
        rows.append(
            (f"{what}, both at once: peak GPU memory, GB", f"{torch.cuda.max_memory_allocated() / 1e9:.1f}", "")
        )
        torch.cuda.reset_peak_memory_stats()
    for way in ways.values():
        way.close()
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table: figure, measured, target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each loop, of which the median (%(default)s)")
    parser.add_argument(
        "--steps", type=int, help="steps an epoch (default: 20; on a GPU 400, or 100 of the large batch)"
    )
    arguments = parser.parse_args(argv)
    logging.getLogger("fusionctl").addHandler(logging.NullHandler())  # no validation: the loop would warn
    rows = [("figure", "measured", "target")]
    for setting in (SMALL, *(PAPER if arguments.device != "cpu" else ())):
        with tempfile.TemporaryDirectory() as folder:
            steps = arguments.steps or (20 if arguments.device == "cpu" else 400 if setting[-1] == 16 else 100)
            data = make_stays(Path(folder), steps * setting[-1])
            rows += compare(data, setting, device=arguments.device, rounds=arguments.rounds)
    for row in rows:
        print(f"{row[0]:<62}{row[1]:>10}{row[2]:>10}")


if __name__ == "__main__":
    main()
