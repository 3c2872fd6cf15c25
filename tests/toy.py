"""A tiny preprocess artifact, written in a blink, for the tests of what reads one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl

from fusionctl.data.variables import CHEXPERT_LABELS, VARIABLES

SIDE = 40
INTIME = datetime(2150, 1, 1)
FILM_HOURS = 20.0


def write_preprocessed(path: Path, *, stays: int = 48, seed: int = 0, films: bool = True, known: float = 1.0) -> Path:
    """Stays of 3 to 6 rows, every other one with a film; heart rate and the film's brightness tell the label."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    n_rows = rng.integers(3, 7, stays).astype(np.int32)
    label = (np.arange(stays) * 7 % 5 < 2).astype(np.float32)
    values = np.stack([np.full(n_rows.sum(), v.normal_value) for v in VARIABLES], axis=1).astype(np.float32)
    values += np.where([not v.is_categorical for v in VARIABLES], rng.normal(0, 1, values.shape), 0).astype(np.float32)
    rate = [v.name for v in VARIABLES].index("Heart Rate")
    values[:, rate] += 20 * np.repeat(label, n_rows)
    np.save(path / "values.npy", values)
    np.save(path / "observed.npy", rng.random(values.shape) < 0.6)
    has_film = (np.arange(stays) % 2 == 0) & films
    film = np.where(has_film, np.cumsum(has_film) - 1, -1).astype(np.int32)
    splits = np.array(["train", "train", "train", "val", "test", "train"])[np.arange(stays) // 2 % 6]
    samples = pl.DataFrame(
        {
            "stay_id": np.arange(stays) + 30_000_000,
            "subject_id": np.arange(stays) + 10_000_000,
            "split": splits.tolist(),
            "first_row": np.cumsum(n_rows).astype(np.int64) - n_rows,
            "n_rows": n_rows,
            "window_hours": np.full(stays, 48.0),
            "last_event_hours": np.full(stays, 47.0),
            "film": film,
            "intime": [INTIME] * stays,
            "film_hours": np.where(has_film, FILM_HOURS, np.nan),
            "age": np.full(stays, 60.0),
            "mortality": np.where(rng.random(stays) < known, label, np.nan).astype(np.float32),
        }
    )
    samples.write_parquet(path / "samples.parquet")
    of_film = label[has_film]
    pixels = rng.integers(0, 60, (len(of_film), SIDE, SIDE)) + 120 * of_film[:, None, None]
    np.save(path / "films.npy", pixels.astype(np.uint8))
    labels = {name: np.full(len(of_film), np.nan, np.float32) for name in CHEXPERT_LABELS}
    labels["Pneumonia"], labels["No Finding"] = of_film, 1 - of_film
    facts = {"film": np.arange(len(of_film), dtype=np.int32), "subject_id": samples["subject_id"].to_numpy()[has_film]}
    times = pl.Series([INTIME + timedelta(hours=FILM_HOURS)] * len(of_film), dtype=pl.Datetime("us"))
    table = pl.DataFrame({"study_time": times, **facts, "split": splits[has_film].tolist(), **labels})
    table.write_parquet(path / "films.parquet")
    continuous = np.array([not v.is_categorical for v in VARIABLES])
    train = values[np.repeat(splits == "train", n_rows)].astype(np.float64)
    statistics = {"mean": np.where(continuous, train.mean(0), 0).tolist(), "sd": np.where(continuous, train.std(0), 1)}
    statistics = {**statistics, "sd": statistics["sd"].tolist(), "n_stays": int((splits == "train").sum())}
    (path / "normaliser.json").write_text(json.dumps(statistics))
    return path


def artifact(path: Path) -> SimpleNamespace:
    """What a stage sees of an upstream artifact."""
    return SimpleNamespace(path=path, file=lambda name: path / name)
