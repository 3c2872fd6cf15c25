"""A tiny preprocess artifact, written in a blink, for the tests of what reads one."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl

from fusionctl.data.variables import CHEXPERT_LABELS, VARIABLES
from fusionctl.workdir import Artifact, Work

SIDE = 40
INTIME = datetime(2150, 1, 1)
FILM_HOURS = 20.0


def write_preprocessed(
    path: Path, *, stays: int = 48, seed: int = 0, films: bool = True, known: float = 1.0, most_films: int = 1
) -> Path:
    """Stays of 3 to 6 rows, every other one with films; heart rate and a film's brightness tell the label.

    The stays with films have 1, 2, ... `most_films` in turn, the last at FILM_HOURS, the others each an hour before.
    The first row of films.npy could not be read: it is black and not in films.parquet.
    """
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
    n_films = np.where(np.arange(stays) % 2 == 0, 1 + np.arange(stays) // 2 % most_films, 0) * films
    last = np.where(n_films > 0, np.cumsum(n_films), -1).astype(np.int32)
    owner = np.repeat(np.arange(stays), n_films)
    film = np.arange(1, len(owner) + 1, dtype=np.int32)
    film_hours = FILM_HOURS - (last[owner] - film)
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
            "film": last,
            "n_films": n_films.astype(np.int32),
            "intime": [INTIME] * stays,
            "film_hours": np.where(n_films > 0, FILM_HOURS, np.nan),
            "age": np.full(stays, 60.0),
            "mortality": np.where(rng.random(stays) < known, label, np.nan).astype(np.float32),
        }
    )
    samples.write_parquet(path / "samples.parquet")
    pairs = {"stay_id": samples["stay_id"].to_numpy()[owner], "film": film, "film_hours": film_hours}
    pl.DataFrame(pairs).write_parquet(path / "pairs.parquet")
    _write_films(path, rng, film, label[owner], film_hours, samples[owner])
    continuous = np.array([not v.is_categorical for v in VARIABLES])
    train = values[np.repeat(splits == "train", n_rows)].astype(np.float64)
    statistics = {"mean": np.where(continuous, train.mean(0), 0).tolist(), "sd": np.where(continuous, train.std(0), 1)}
    statistics = {**statistics, "sd": statistics["sd"].tolist(), "n_stays": int((splits == "train").sum())}
    statistics["kind"] = "standard"
    (path / "normaliser.json").write_text(json.dumps(statistics))
    return path


def _write_films(path, rng, film, label, film_hours, samples):
    """films.npy and films.parquet, of films (F,) with their labels, times and the samples that they belong to."""
    pixels = rng.integers(0, 60, (len(film), SIDE, SIDE)) + 120 * label[:, None, None]
    unreadable = np.zeros((1 if len(film) else 0, SIDE, SIDE))
    np.save(path / "films.npy", np.concatenate([unreadable, pixels]).astype(np.uint8))
    labels = {name: np.full(len(film), np.nan, np.float32) for name in CHEXPERT_LABELS}
    labels["Pneumonia"], labels["No Finding"] = label, 1 - label
    times = pl.Series([INTIME + timedelta(hours=hours) for hours in film_hours.tolist()], dtype=pl.Datetime("us"))
    facts = {"film": film, "study_id": film + 50_000_000, "study_time": times}
    facts |= {"view": ["AP"] * len(film), "labelled_by": ["chexpert"] * len(film)}
    pl.DataFrame(facts | samples.select("subject_id", "split").to_dict() | labels).write_parquet(path / "films.parquet")


def artifact(path: Path, **settings) -> SimpleNamespace:
    """What a stage sees of an upstream artifact that was made with some settings."""
    return SimpleNamespace(path=path, file=lambda name: path / name, setting=settings.get)


def publish(work: Work, path: Path) -> Artifact:
    """The files that `write_preprocessed` wrote as the preprocess artifact of a work directory."""
    draft = work.draft("preprocess", "0123456789ab", resume=False)
    for file in path.iterdir():
        draft.file(file.name).write_bytes(file.read_bytes())
    manifest = {"stage": "preprocess", "id": "0123456789ab", "schema_version": 2, "created": "2026-01-01T00:00:00"}
    manifest |= {"settings": {"task": {"value": "mortality"}}, "seed": None, "inputs": {}, "raw": {}}
    return work.publish(draft, {**manifest, "sensitivity": "synthetic"})
