"""Writing whole trees: the story's tables and films, staged and then moved into place."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from fusionctl import lock
from fusionctl.data.mimic import SYNTHETIC_MARKER
from fusionctl.data.synth import chart, labs, tables
from fusionctl.data.synth.cohort import Cohort, build_cohort
from fusionctl.data.synth.films import FIRST_FILM_YEAR, LAST_FILM_YEAR, FilmStays, write_film_tree
from fusionctl.data.synth.layout import LAYOUTS, MARKER_TEXT, Layout, open_table, write_table
from fusionctl.data.synth.source import read_stays
from fusionctl.data.synth.story import draw_latents, film_severity_from_outcome, stream
from fusionctl.errors import FusionctlError, UsageError

log = logging.getLogger("fusionctl")

MOST_STAYS = 10_000_000  # a hundred times MIMIC's
BLOCK = 500  # stays whose event rows are in memory at once; part of what a seed means
MIMIC, CXR = "mimic-iv", "mimic-cxr-jpg"
_STAGING = ".synth.partial"


def write_tree(out: Path, *, stays: int, layout: Layout, seed: int, films: bool = True) -> None:
    """Write a synthetic MIMIC-IV tree and, unless `films` is false, a MIMIC-CXR-JPG tree.

    Args:
        out: directory to write `mimic-iv/` and `mimic-cxr-jpg/` into; made when missing, must be empty.
        stays: number of ICU stays, exactly.
        layout: release whose folders and columns are written: "v1", "v2" or "v3".
        seed: 0 or more; the same arguments give the same bytes.
        films: also write films.

    Raises:
        UsageError: `out` exists and is not an empty directory, or an argument is out of range.
        FusionctlError: the tree cannot be written (no space, no permission).
    """
    _check(stays, layout, seed)
    cohort = build_cohort(draw_latents(stays, seed), seed, layout=layout)
    with _staged(out) as staging:
        mimic = staging / MIMIC
        _write_marker(mimic, layout, seed, stays)
        _write_small_tables(mimic, cohort, layout, seed)
        _write_events(mimic, cohort, layout, seed)
        log.info("wrote %d synthetic stays in layout %s", stays, layout)
        if films:
            in_years = (cohort.year >= FIRST_FILM_YEAR) & (cohort.year <= LAST_FILM_YEAR)
            severity = cohort.latents.film()
            film_stays = FilmStays(cohort.subject_id, cohort.intime, cohort.outtime, in_years, severity)
            _write_cxr(staging / CXR, film_stays, layout, seed)


def ensure_tree(out: Path, *, stays: int, layout: Layout, seed: int) -> None:
    """Write both trees unless they are there; of several runs at once one writes them.

    Args:
        out: directory for these trees alone: where it exists nothing is done.
        stays: as for `write_tree`.
        layout: likewise.
        seed: likewise.

    Raises:
        LockedError: another run is writing them.
        UsageError: an argument is out of range.
        FusionctlError: they cannot be written.
    """
    with _one_error(out):
        if out.is_dir():
            return
        _check(stays, layout, seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        with lock.held(out.with_name(f"{out.name}.lock"), str(out)):
            partial = out.with_name(f"{out.name}.partial")
            if not out.is_dir():  # another run may have just written it
                shutil.rmtree(partial, ignore_errors=True)
                write_tree(partial, stays=stays, layout=layout, seed=seed)
                partial.rename(out)


def write_films(out: Path, *, mimic_root: Path, seed: int) -> None:
    """Write a synthetic MIMIC-CXR-JPG tree for the stays of an existing MIMIC-IV tree.

    Args:
        out: directory to write `mimic-cxr-jpg/` into; made when missing, must be empty.
        mimic_root: MIMIC-IV tree of any layout; only icustays and admissions are read.
        seed: 0 or more; the same arguments give the same bytes.

    Raises:
        UsageError: `out` exists and is not an empty directory, or the seed is negative.
        InputError: a table of `mimic_root` is missing or unreadable, or lacks a column.
        FusionctlError: the tree cannot be written.
    """
    _check_seed(seed)
    source = read_stays(mimic_root)
    severity = film_severity_from_outcome(source.died, stream(seed, "film severity"))
    everywhere = np.ones(len(severity), dtype=np.bool_)  # the calendar year of a stay is not known here
    film_stays = FilmStays(source.subject_id, source.intime, source.outtime, everywhere, severity)
    with _staged(out) as staging:
        _write_cxr(staging / CXR, film_stays, "the tree given", seed)


def _write_small_tables(root: Path, cohort: Cohort, layout: Layout, seed: int) -> None:
    icustays, transfers = tables.stay_frames(cohort, seed)
    frames = {
        "patients": tables.patients_frame(cohort, layout, seed),
        "admissions": tables.admissions_frame(cohort, seed),
        "icustays": icustays,
        "transfers": transfers,
        "diagnoses_icd": tables.diagnoses_frame(cohort, seed),
        "d_icd_diagnoses": tables.diagnosis_names(),
        "d_items": chart.item_names(),
        "d_labitems": labs.lab_names(),
    }
    for table, frame in frames.items():
        write_table(root, table, layout, frame)


def _write_events(root: Path, cohort: Cohort, layout: Layout, seed: int) -> None:
    """Write the three event tables block by block."""
    lab_id = 1
    with ExitStack() as stack:
        chart_file, lab_file, output_file = (
            stack.enter_context(open_table(root, table, layout))
            for table in ("chartevents", "labevents", "outputevents")
        )
        for part, start in enumerate(range(0, len(cohort.stay_id), BLOCK)):
            block = slice(start, min(start + BLOCK, len(cohort.stay_id)))
            chart_file.write(chart.chart_frame(cohort, block, stream(seed, "chart", part)))
            rows = labs.lab_frame(cohort, block, stream(seed, "labs", part), lab_id)
            lab_file.write(rows)
            lab_id += rows.height
            output_file.write(chart.output_frame(cohort, block, stream(seed, "outputs", part)))


def _write_cxr(root: Path, stays: FilmStays, layout: str, seed: int) -> None:
    _write_marker(root, layout, seed, len(stays.subject_id))
    count = write_film_tree(root, stays, seed)
    log.info("wrote %d synthetic films", count)


def _write_marker(root: Path, layout: str, seed: int, stays: int) -> None:
    root.mkdir(parents=True)
    (root / SYNTHETIC_MARKER).write_text(MARKER_TEXT.format(layout=layout, seed=seed, stays=stays), encoding="utf-8")


def _check(stays: int, layout: Layout, seed: int) -> None:
    if layout not in LAYOUTS:
        raise UsageError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}", hint="use --layout v2")
    if not 1 <= stays <= MOST_STAYS:
        raise UsageError(f"stays must be 1 or more, at most {MOST_STAYS:,}; got {stays}", hint="use --stays 100")
    _check_seed(seed)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"seed must be 0 or more, got {seed}", hint="use --seed 0")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A directory inside `out` whose content moves up when the body ends well and vanishes when it does not."""
    staging = out / _STAGING
    with _one_error(out):
        if out.exists() and (not out.is_dir() or any(path.name != _STAGING for path in out.iterdir())):
            raise UsageError(
                f"{out} exists and is not an empty directory: nothing is overwritten",
                hint="give --out a new directory, or empty this one first",
            )
        shutil.rmtree(staging, ignore_errors=True)  # left by a killed run
        staging.mkdir(parents=True)
        try:
            yield staging
            for path in sorted(staging.iterdir()):
                path.replace(out / path.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _one_error(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FusionctlError(
            f"cannot write the synthetic tree to {out}: {error.strerror or error}",
            hint="check free space and write permission, or give --out another directory",
        ) from error
