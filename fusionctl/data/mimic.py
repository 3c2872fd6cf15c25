"""MIMIC's names: the only module that knows how the raw tables, their columns and their folders are called.

Layouts differ between releases (v1.0 has core/ and `ethnicity`; v2 and v3 have neither). They are told apart by
folders, columns and the years they cover, never by the name of a folder.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fusionctl.data.lines import read_header
from fusionctl.data.tables import Column
from fusionctl.data.variables import CHEXPERT_LABELS
from fusionctl.errors import InputError

# Folders in which a release may keep each table.
_FOLDERS = {
    "patients": ("core", "hosp"),
    "admissions": ("core", "hosp"),
    "diagnoses_icd": ("hosp",),
    "labevents": ("hosp",),
    "icustays": ("icu",),
    "chartevents": ("icu",),
}
_SUFFIXES = (".csv.gz", ".csv")

COLUMNS: dict[str, tuple[Column, ...]] = {
    "patients": (
        Column("subject_id", "id", required=True),
        Column("gender", "text"),
        Column("anchor_age", "number"),
        Column("anchor_year", "whole"),
        Column("anchor_year_group", "text"),
        Column("dod", "date"),
    ),
    "admissions": (
        Column("subject_id", "id", required=True),
        Column("hadm_id", "id", required=True),
        Column("admittime", "time"),
        Column("dischtime", "time"),
        Column("deathtime", "time"),
        Column("race", "text", aliases=("ethnicity",)),
    ),
    "icustays": (
        Column("subject_id", "id", required=True),
        Column("hadm_id", "id", required=True),
        Column("stay_id", "id", required=True),
        Column("first_careunit", "text"),
        Column("last_careunit", "text"),
        Column("intime", "time"),
        Column("outtime", "time"),
    ),
    "diagnoses_icd": (Column("hadm_id", "id"), Column("icd_code", "text"), Column("icd_version", "whole")),
    "chartevents": (
        Column("hadm_id", "id"),
        Column("stay_id", "id"),
        Column("charttime", "time"),
        Column("storetime", "time"),
        Column("itemid", "whole"),
        Column("value", "text"),
        Column("valuenum", "number"),
    ),
    "labevents": (
        Column("subject_id", "id"),
        Column("hadm_id", "id"),
        Column("charttime", "time"),
        Column("storetime", "time"),
        Column("itemid", "whole"),
        Column("value", "text"),
        Column("valuenum", "number"),
    ),
    "metadata": (
        Column("dicom_id", "text", required=True),
        Column("subject_id", "id", required=True),
        Column("study_id", "id", required=True),
        Column("ViewPosition", "text"),
        Column("StudyDate", "whole"),
        Column("StudyTime", "number"),
    ),
    "chexpert": (
        Column("subject_id", "id", required=True),
        Column("study_id", "id", required=True),
        *(Column(label, "number") for label in CHEXPERT_LABELS),
    ),
}
ITEM_COLUMN = "itemid"

_V3_YEARS = "2020 - 2022"  # an anchor_year_group that releases before v3 do not have

SYNTHETIC_MARKER = "SYNTHETIC.txt"
_DEMO_MARKER = "demo_subject_id.csv"
_OPEN_LICENCES = ("open database license", "odbl", "open data commons", "odc-by", "creative commons", "cc by", "cc0")


@dataclass(frozen=True)
class Layout:
    """Where the tables of a MIMIC-IV tree are, and which release it is."""

    root: Path
    paths: dict[str, Path]
    version: str
    evidence: str


def find_layout(root: Path) -> Layout:
    """Find the tables of a MIMIC-IV tree and tell its release from folders and columns.

    Raises:
        InputError: the root is missing or unreadable, or a table is missing.
    """
    names = _listing(root)
    if not {"icu", "hosp"} & set(names):
        raise InputError(f"{root}: no folder icu/ or hosp/ in it", hint=_nested_hint(root, names))
    paths = {table: _find_table(root, table) for table in _FOLDERS}
    admissions = {name.lower() for name in read_header(paths["admissions"])}
    chart = {name.lower() for name in read_header(paths["chartevents"])}
    race = "race" if "race" in admissions else "ethnicity"
    folder = paths["admissions"].parent.name
    if "core" in (folder, paths["patients"].parent.name) or race == "ethnicity":
        version = "v1"
    else:
        version = "v2/v3" if "caregiver_id" in chart else "v2"
    evidence = f"admissions in {folder}/ with column {race}, chartevents with{'' if 'caregiver_id' in chart else 'out'}"
    return Layout(root, paths, version, f"{evidence} caregiver_id")


def refine_version(layout: Layout, patients: pl.DataFrame) -> str:
    """The release, told further by the years that the patients' table covers.

    Headers of v2.2 and v3.1 are the same; only v3 has patients anchored in 2020 - 2022. A tree without such patients
    stays "v2/v3".
    """
    if layout.version == "v2/v3" and (patients["anchor_year_group"] == _V3_YEARS).any():
        return "v3"
    return layout.version


def find_films(root: Path) -> dict[str, Path]:
    """Paths of the metadata and CheXpert tables of a MIMIC-CXR-JPG tree (2.0.0 or 2.1.0; both name them 2.0.0).

    Raises:
        InputError: the root is missing or unreadable, or a table is missing or there in several versions.
    """
    names = _listing(root)
    found = {}
    for table in ("metadata", "chexpert"):
        pattern = re.compile(rf"mimic-cxr-\d+\.\d+\.\d+-{table}(\.csv(\.gz)?)")
        matches = sorted(name for name in names if pattern.fullmatch(name))
        versions = {name.partition(".csv")[0] for name in matches}
        if len(versions) > 1:
            raise InputError(f"{root}: several versions of one table: {', '.join(matches)}", hint="keep one of them")
        if not matches:
            what = f"{root}: mimic-cxr-2.0.0-{table}.csv.gz is missing"
            raise InputError(what, hint=_near_hint(f"mimic-cxr-2.0.0-{table}.csv.gz", names, "--cxr-root"))
        found[table] = root / max(matches)  # the compressed one where both are there
    return found


def film_path(subject_id: str, study_id: str, dicom_id: str) -> pl.Expr:
    """Path of a film below the MIMIC-CXR-JPG root, from the columns that hold its ids."""
    subject = pl.col(subject_id).cast(pl.String)
    folder = pl.format("files/p{}/p{}/s{}", subject.str.slice(0, 2), subject, pl.col(study_id))
    return pl.format("{}/{}.jpg", folder, pl.col(dicom_id))


def strictest(sensitivities: Iterable[str]) -> str:
    """The most cautious of several sensitivities."""
    return max(sensitivities, key=("synthetic", "open", "credentialed").index)


def sensitivity(root: Path) -> str:
    """How freely results from a data set may be shown, by what its root says of itself.

    "synthetic" where `fusionctl synth` left its marker; "open" where the tree says so: the list of subjects that marks
    the open MIMIC-IV demo, or a LICENSE or README file in the root that names an open licence and not a credentialed
    one. Everything else is "credentialed": size proves nothing, a small tree may be an excerpt.
    """
    names = _listing(root)
    if SYNTHETIC_MARKER in names:
        return "synthetic"
    if _DEMO_MARKER in names:
        return "open"
    texts = [name for name in names if name.lower().startswith(("license", "licence", "readme"))]
    said = " ".join(_start_of(root / name) for name in texts)
    is_open = any(re.search(rf"\b{licence}\b", said) for licence in _OPEN_LICENCES) and "credentialed" not in said
    return "open" if is_open else "credentialed"


def _start_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return " ".join(file.read(20_000).lower().split())
    except OSError:
        return "credentialed"  # unreadable: assume the stricter


def _listing(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir())
    except OSError as error:
        hint = "check --mimic-root and --cxr-root, and that you may read them"
        raise InputError(f"{root}: {(error.strerror or 'unreadable').lower()}", hint=hint) from error


def _find_table(root: Path, table: str) -> Path:
    tried = [root / folder / f"{table}{suffix}" for folder in _FOLDERS[table] for suffix in _SUFFIXES]
    try:
        for path in tried:
            if path.exists():
                return path
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}", hint="check that you may read the folder") from error
    shown = ", ".join(path.relative_to(root).as_posix() for path in tried)
    near = [
        f"{folder}/{name}" for folder in _FOLDERS[table] if (root / folder).is_dir() for name in _listing(root / folder)
    ]
    hint = _near_hint(f"{_FOLDERS[table][-1]}/{table}.csv.gz", near, "--mimic-root")
    raise InputError(f"{root}: table {table} is missing (looked for {shown})", hint=hint)


def _near_hint(wanted: str, names: list[str], option: str) -> str:
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.85)
    looks = f"{near[0]} looks like it: give it its released name, or " if near else ""
    return f"{looks}get the table from PhysioNet, or check {option}"


def _nested_hint(root: Path, names: list[str]) -> str:
    inside = [name for name in names if (root / name / "icu").is_dir() or (root / name / "hosp").is_dir()]
    return f"try --mimic-root {root / inside[0]}" if inside else "--mimic-root is the folder that holds icu/ and hosp/"
