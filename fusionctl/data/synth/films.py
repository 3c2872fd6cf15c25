"""The MIMIC-CXR-JPG half of the synthetic data: which films a stay has, what they show, how they are labelled."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from fusionctl.data.synth.layout import cxr_writer
from fusionctl.data.synth.render import COLUMNS, ROWS, Findings, encode, render
from fusionctl.data.synth.story import STUDY_NOISE, Bools, Floats, Ints, sigmoid, stream
from fusionctl.data.variables import CHEXPERT_LABELS

HOUR = 3600
WINDOW_HOURS = 48.0
# MIMIC-CXR covers 2011-2016 only: a stay of another year has no film.
FIRST_FILM_YEAR, LAST_FILM_YEAR = 2011, 2016
IN_WINDOW_RATE = 0.6  # share of the stays of those years with an AP film in the first 48 h
BEFORE_RATE, LATE_RATE, AFTER_RATE, OTHER_VIEW_RATE = 0.25, 0.25, 0.15, 0.1
OUTSIDE_SHARE = 0.5  # severity shows half as much in films before and after the stay

# Projections of a study by kind: ViewPosition of each picture, "" = not recorded.
_VIEWS: tuple[tuple[str, ...], ...] = (("AP",), ("PA", "LATERAL"), ("",), ("AP", "AP"), ("PA", "LL"))
_AP, _PA_LATERAL, _UNKNOWN, _AP_TWICE, _PA_LL = range(len(_VIEWS))
_VIEW_MEANINGS = {"AP": "antero-posterior", "PA": "postero-anterior", "LATERAL": "lateral", "LL": "left lateral"}
_PROCEDURES = {"AP": "CHEST (PORTABLE AP)", "": "CHEST (SINGLE VIEW)"}


class FilmStays(NamedTuple):
    """The stays that films are made for: ids, seconds since 1970, calendar year before date shifting, severity (S,)."""

    subject_id: Ints
    intime: Ints
    outtime: Ints
    in_film_years: Bools
    severity: Floats


class Studies(NamedTuple):
    """One row per study: row of its stay, time in seconds since 1970, kind (index into the views), severity shown."""

    stay: Ints
    time: Ints
    kind: Ints
    severity: Floats


def write_film_tree(root: Path, stays: FilmStays, seed: int) -> int:
    """Write pictures, metadata, labels and split below `root`; returns the number of pictures."""
    studies = plan_studies(stays, seed)
    count = len(studies.stay)
    study_id = 50_000_000 + stream(seed, "study ids").choice(10_000_000, count, replace=False)
    subject_id = stays.subject_id[studies.stay]
    findings = draw_findings(studies.severity, seed)
    images = _image_frame(studies, subject_id, study_id, seed)
    for row, number, view, path in images.select("study", "number", "view", "path").iter_rows():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(render(findings[row], view, stream(seed, "film", 4 * row + number))))
    labels = _label_frame(subject_id, study_id, findings, seed)
    _write_cxr_tables(root, images, labels, seed)
    return images.height


def _image_frame(studies: Studies, subject_id: Ints, study_id: Ints, seed: int) -> pl.DataFrame:
    """One row per picture: study (row), number within it, view, ids, time in seconds, path below the CXR root."""
    pictures = [
        (row, number, view) for row, kind in enumerate(studies.kind) for number, view in enumerate(_VIEWS[kind])
    ]
    frame = pl.DataFrame(pictures, schema={"study": pl.Int64, "number": pl.Int64, "view": pl.String}, orient="row")
    words = stream(seed, "film ids").integers(0, 2**32, (len(pictures), 5)).tolist()
    study = frame["study"].to_numpy()
    return frame.with_columns(
        dicom_id=pl.Series(["-".join(f"{word:08x}" for word in five) for five in words], dtype=pl.String),
        subject_id=pl.Series(subject_id[study]),
        study_id=pl.Series(study_id[study]),
        time=pl.Series(studies.time[study]) + 20 * pl.col("number"),
    ).with_columns(
        path=pl.format(
            "files/p{}/p{}/s{}/{}.jpg",
            pl.col("subject_id").cast(pl.String).str.head(2),
            "subject_id",
            "study_id",
            "dicom_id",
        )
    )


def plan_studies(stays: FilmStays, seed: int) -> Studies:
    """Draw the studies before, in and after each stay."""
    rng = stream(seed, "film plan")
    n = len(stays.subject_id)
    los = (stays.outtime - stays.intime) / HOUR
    window = np.minimum(WINDOW_HOURS, los)

    def chosen(rate: float, allowed: Bools | bool = True) -> Ints:
        return np.flatnonzero((rng.random(n) < rate) & stays.in_film_years & allowed)

    first = chosen(IN_WINDOW_RATE)
    again = first[rng.random(len(first)) < 0.4]
    other = np.setdiff1d(chosen(OTHER_VIEW_RATE), first)
    before, late, after = chosen(BEFORE_RATE), chosen(LATE_RATE, los > WINDOW_HOURS + 4), chosen(AFTER_RATE)
    anything = {_AP: 0.4, _PA_LATERAL: 0.4, _UNKNOWN: 0.12, _PA_LL: 0.08}
    occasions = (  # rows of stays, first hour, last hour, kinds and their shares, share of the severity that shows
        (first, 0.02 * window, 0.98 * window, {_AP: 0.95, _AP_TWICE: 0.05}, 1.0),
        (again, 0.02 * window, 0.98 * window, {_AP: 1.0}, 1.0),
        (other, 0.02 * window, 0.98 * window, {_PA_LATERAL: 0.5, _UNKNOWN: 0.5}, 1.0),
        (before, np.full(n, -240.0), np.full(n, -1.0), anything, OUTSIDE_SHARE),
        (late, np.full(n, WINDOW_HOURS + 0.5), los - 0.5, anything, 1.0),
        (after, los + 2.0, los + 200.0, anything, OUTSIDE_SHARE),
    )
    parts = []
    for rows, begin, end, kinds, share in occasions:
        hours = begin[rows] + rng.random(len(rows)) * (end - begin)[rows]
        kind = rng.choice(list(kinds), len(rows), p=list(kinds.values()))
        severity = share * stays.severity[rows] + STUDY_NOISE * rng.standard_normal(len(rows))
        parts.append((rows, stays.intime[rows] + np.rint(hours * HOUR).astype(np.int64), kind, severity))
    return Studies(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def draw_findings(severity: Floats, seed: int) -> list[Findings]:
    """What each study shows, from its severity (N,) and noise of its own for every finding."""
    rng = stream(seed, "findings")
    noise = rng.standard_normal((4, len(severity)))
    consolidation = np.clip(0.45 + 0.35 * severity + 0.3 * noise[0], 0, 1.5)
    effusion = np.clip(0.2 + 0.3 * severity + 0.3 * noise[1], 0, 1.2)
    edema = np.clip(0.35 + 0.35 * severity + 0.3 * noise[2], 0, 1.4)
    heart = np.clip(1.05 + 0.05 * severity + 0.1 * noise[3], 0.8, 1.4)
    device = rng.random(len(severity)) < sigmoid(-0.3 + 0.8 * severity)
    columns = (consolidation, effusion, edema, heart, device)
    return [Findings(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _label_frame(subject_id: Ints, study_id: Ints, findings: list[Findings], seed: int) -> pl.DataFrame:
    """Labels as CheXpert gives them: 1, 0 (denied), -1 (uncertain) or null (not mentioned), one row per study."""
    rng = stream(seed, "labels")
    n = len(findings)
    consolidation, effusion, edema, heart = (
        np.array([getattr(f, name) for f in findings]) for name in ("consolidation", "effusion", "edema", "heart")
    )
    excess = {  # amount above the threshold at which a reader would report it
        "Atelectasis": effusion + 0.2 * rng.standard_normal(n) - 0.35,
        "Cardiomegaly": (heart - 1.15) * 4,
        "Consolidation": consolidation - 0.8,
        "Edema": edema - 0.6,
        "Enlarged Cardiomediastinum": (heart - 1.22) * 4,
        "Fracture": rng.standard_normal(n) * 0.5 - 1,
        "Lung Lesion": rng.standard_normal(n) * 0.5 - 1,
        "Lung Opacity": np.maximum(consolidation, edema) - 0.6,
        "Pleural Effusion": effusion - 0.35,
        "Pleural Other": rng.standard_normal(n) * 0.5 - 1.1,
        "Pneumonia": consolidation + 0.2 * rng.standard_normal(n) - 0.85,
        "Pneumothorax": rng.standard_normal(n) * 0.5 - 0.9,
        "Support Devices": np.array([1.0 if f.device else -1.0 for f in findings]),
    }
    healthy = np.ones(n, dtype=bool)
    columns: dict[str, Floats] = {}
    for name, amount in excess.items():
        denied = np.where(rng.random(n) < 0.3, 0.0, np.nan)
        value = np.where(amount > 0, 1.0, denied)
        value[(np.abs(amount) < 0.15) & (rng.random(n) < 0.5)] = -1.0
        columns[name] = value
        healthy &= ~(np.abs(value) == 1) | (name == "Support Devices")
    columns["No Finding"] = np.where(healthy, 1.0, np.nan)
    ordered = {name: columns[name] for name in CHEXPERT_LABELS}
    frame = pl.DataFrame({"subject_id": subject_id, "study_id": study_id, **ordered})
    return frame.with_columns(pl.col(CHEXPERT_LABELS).fill_nan(None))


def _write_cxr_tables(root: Path, images: pl.DataFrame, labels: pl.DataFrame, seed: int) -> None:
    write = cxr_writer(root)
    rng = stream(seed, "cxr tables")
    moment = pl.from_epoch("time")
    clock = moment.dt.hour().cast(pl.Int64) * 10_000 + moment.dt.minute().cast(pl.Int64) * 100 + moment.dt.second()
    milliseconds = pl.Series(rng.integers(0, 1000, images.height))
    view = pl.col("view")
    procedure = view.replace_strict(_PROCEDURES, default="CHEST (PA AND LAT)")
    meaning = view.replace_strict(_VIEW_MEANINGS, default=None, return_dtype=pl.String)
    metadata = images.with_columns(
        PerformedProcedureStepDescription=procedure,
        ViewPosition=pl.when(view != "").then(view),
        Rows=pl.lit(ROWS),
        Columns=pl.lit(COLUMNS),
        StudyDate=moment.dt.strftime("%Y%m%d").cast(pl.Int64),
        StudyTime=clock + milliseconds / 1000,  # as a number: leading zeros are lost, as in the release
        ProcedureCodeSequence_CodeMeaning=procedure,
        ViewCodeSequence_CodeMeaning=meaning,
        PatientOrientationCodeSequence_CodeMeaning=pl.when(view == "PA").then(pl.lit("Erect")),
    )
    write("metadata", metadata)
    # A few studies of the release carry no labels at all.
    labelled = labels.filter(pl.Series(rng.permutation(labels.height) >= labels.height // 100))
    write("chexpert", labelled)
    # The second labeller disagrees here and there on what is uncertain.
    flips = {name: pl.Series(rng.random(labelled.height) < 0.4) for name in CHEXPERT_LABELS}
    negbio = [
        pl.when((pl.col(name) == -1) & flip).then(None).otherwise(pl.col(name)).alias(name)
        for name, flip in flips.items()
    ]
    write("negbio", labelled.with_columns(negbio))
    part = pl.col("subject_id") % 100
    split = pl.when(part < 97).then(pl.lit("train")).when(part == 97).then(pl.lit("validate")).otherwise(pl.lit("test"))
    write("split", images.with_columns(split=split))
