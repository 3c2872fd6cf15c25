"""Stage `films`: every film of extract, decoded once, for all tasks, protocols and folds.

extract: films, and the film files   ->  films.npy, films.parquet, unreadable.csv

Films and rows: row i of films.npy is row i of extract's films.parquet. A stopped run goes on where it was, and several
jobs can each do a share (`--shard I/N`); the run that comes after them does what is left and publishes.
"""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fusionctl import parquet
from fusionctl.data import dicom, film_journal, images
from fusionctl.data.film_cache import FilmCache
from fusionctl.data.film_journal import Block
from fusionctl.durable import replace
from fusionctl.errors import InputError
from fusionctl.settings import FilmsSettings, Runtime
from fusionctl.workdir import Artifact, Draft

log = logging.getLogger("fusionctl")

_LOGGED = 10  # faults of films named in the log; all are in unreadable.csv
_DICOM_KEY = "dicom_films"


def run(draft: Draft, settings: FilmsSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Read the films that no earlier run or share has read, and finish the artifact.

    Raises:
        FusionctlError: the disk has too little room.
        InputError: the films' folder was not given, or too many films cannot be read; what was read stays.
        UsageError: the film size does not fit CLAHE's tiles.
    """
    table = draft.file("films.parquet")
    if not table.exists():  # it is written when all films are done, and may wait for publication since then
        films, cache = _cache(draft, settings, inputs)
        _finish(draft, films["study_id"], _fill(films["study_id"], cache, settings, (1, 1), runtime).values())
    for path in [*film_journal.paths(draft.path), *draft.path.glob("unreadable-*-of-*.csv")]:
        path.unlink(missing_ok=True)
    readable, n_dicom = parquet.read(table)["readable"], int(pl.read_parquet_metadata(table).get(_DICOM_KEY, 0))
    draft.rows |= {"films": len(readable), "unreadable": int((~readable).sum())}
    draft.facts["decoder"] = images.decoder_version() + (f", {dicom.version()}" if n_dicom else "")
    draft.facts["clahe_backend"] = images.backend_version(settings.clahe_backend) if settings.clahe else None
    draft.facts[_DICOM_KEY] = n_dicom
    log.info("films: %d films, %d of them unreadable", draft.rows["films"], draft.rows["unreadable"])


def run_shard(
    draft: Draft, settings: FilmsSettings, inputs: Mapping[str, Any], shard: tuple[int, int], *, runtime: Runtime
) -> None:
    """Read one share of the films into the draft, which other jobs may be filling at the same time.

    Args:
        draft: its folder is shared by all jobs; nothing in it is removed.
        settings: those of the whole stage.
        inputs: extract and the films' folder.
        shard: share i of n, 1 <= i <= n.
        runtime: processes and progress.

    Raises:
        FusionctlError, InputError, UsageError: as `run`; unreadable films are counted in this share alone.
    """
    if not draft.file("films.parquet").exists():
        films, cache = _cache(draft, settings, inputs)
        _fill(films["study_id"], cache, settings, shard, runtime)


def _cache(draft: Draft, settings: FilmsSettings, inputs: Mapping[str, Any]) -> tuple[pl.DataFrame, FilmCache]:
    extract: Artifact = inputs["extract"]
    root: Path | None = inputs["cxr_root"]
    films = parquet.read(extract.file("films.parquet"), columns=["path", "study_id"])
    if len(films) and root is None:
        raise InputError(
            f"extract/{extract.id} lists {len(films)} films, but their folder was not given",
            hint="add --cxr-root DIR, the folder of MIMIC-CXR-JPG that extract read",
        )
    form = images.FilmFormat(
        size=settings.film_size, fit=settings.film_fit, clahe=settings.clahe, backend=settings.clahe_backend
    )
    return films, FilmCache(draft.path, root or Path(), films["path"].to_list(), form)


def _fill(
    study_ids: pl.Series, cache: FilmCache, settings: FilmsSettings, shard: tuple[int, int], runtime: Runtime
) -> dict[int, Block]:
    """The share's blocks. Where too many films are unreadable, a file beside the array names their studies."""
    try:
        return cache.fill(
            jobs=runtime.jobs,
            max_bad=settings.max_bad_films,
            shard=shard,
            progress=lambda done, total: runtime.progress("films", done, total),
        )
    except InputError as error:
        path = cache.folder / f"unreadable-{shard[0]}-of-{shard[1]}.csv"
        studies = _studies(study_ids, film_journal.read_all(cache.folder).values())
        _write_unreadable(path, studies)
        raise InputError(
            error.message, hint=f"{path} names the studies; {error.hint}" if studies else error.hint
        ) from error


def _studies(study_ids: pl.Series, blocks: Iterable[Block]) -> dict[int, tuple[int, str]]:
    """Of every unreadable film, by its row: its study, and what is wrong with it."""
    reasons = dict(sorted((film, reason) for block in blocks for film, reason in block.unreadable.items()))
    return {film: (int(study_ids[film]), reason) for film, reason in reasons.items()}


def _finish(draft: Draft, study_ids: pl.Series, blocks: Iterable[Block]) -> None:
    """Write what is known of the films; films.parquet last and at once, since it says that all is done."""
    blocks = list(blocks)
    studies = _studies(study_ids, blocks)
    _write_unreadable(draft.file("unreadable.csv"), studies)
    _log_unreadable(studies)
    n_dicom = sum(block.n_dicom for block in blocks)
    if n_dicom:
        log.warning("%d films were DICOM files; their contrast differs from MIMIC-CXR-JPG's equalised films", n_dicom)
    readable = np.ones(len(study_ids), dtype=bool)
    readable[list(studies)] = False
    written = draft.file("films.parquet.new")
    pl.DataFrame({"film": np.arange(len(study_ids), dtype=np.int32), "readable": readable}).write_parquet(
        written, metadata={_DICOM_KEY: str(n_dicom)}
    )
    replace(written, draft.file("films.parquet"))


def _write_unreadable(path: Path, studies: Mapping[int, tuple[int, str]]) -> None:
    """A list that names studies is for its owner alone, whatever the folder allows."""
    path.unlink(missing_ok=True)
    if studies:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("study_id", "reason"), *studies.values()])


def _log_unreadable(studies: Mapping[int, tuple[int, str]]) -> None:
    """Say what is wrong with how many films; a log names no study."""
    reasons = Counter(reason for _, reason in studies.values()).most_common()
    for reason, n in reasons[:_LOGGED]:
        log.warning("films treated as absent: %d, of which each %s", n, reason)
    if rest := sum(n for _, n in reasons[_LOGGED:]):
        log.warning("films treated as absent for other reasons: %d; unreadable.csv names them all", rest)
