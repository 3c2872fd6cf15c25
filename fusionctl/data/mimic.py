"""MIMIC's names: with `columns.py` the only module that knows how raw tables and their folders are called.

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

from fusionctl.data.columns import COLUMNS as COLUMNS
from fusionctl.data.lines import read_header
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

ITEM_COLUMN = "itemid"

# What the laboratory items that are read measure, in every release but v3.0 (d_labitems of the open demo 2.2).
_LAB_ITEMS = {
    50809: ("glucose", "blood"),
    50817: ("oxygen saturation", "blood"),
    50820: ("ph", "blood"),
    50931: ("glucose", "blood"),
}
_WRONG_RELEASE = "MIMIC-IV v3.0 has wrong item ids in labevents and d_labitems; its owners corrected them in v3.1"
_CHANGELOG = "changelog"

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

    `paths` has the table d_labitems too where it is there: it proves what the laboratory's item ids mean.

    Raises:
        InputError: the root is missing or unreadable, a table is missing, or it is release v3.0.
    """
    names = _listing(root)
    if not {"icu", "hosp"} & set(names):
        raise InputError(f"{root}: no folder icu/ or hosp/ in it", hint=_nested_hint(root, names))
    paths = {table: _find_table(root, table) for table in _FOLDERS}
    _refuse_v3_0(root, names)
    item_names = [path for suffix in _SUFFIXES if (path := root / "hosp" / f"d_labitems{suffix}").exists()]
    paths |= dict(zip(["d_labitems"], item_names, strict=False))
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


def _refuse_v3_0(root: Path, names: list[str]) -> None:
    """Refuse a tree whose list of changes ends with v3.0."""
    texts = [_start_of(root / name) for name in names if name.lower().startswith(_CHANGELOG)]
    releases = [tuple(map(int, found)) for found in re.findall(r"\bv?(\d+)\.(\d+)(?:\.\d+)?\b", " ".join(texts))]
    if max((r for r in releases if r < (10, 0)), default=None) == (3, 0):
        raise InputError(f"{root}: its list of changes ends with v3.0. {_WRONG_RELEASE}", hint="get v3.1 or later")


def check_lab_items(path: Path, items: pl.DataFrame) -> None:
    """Check that the laboratory items that are read measure what they should.

    Args:
        path: of the table d_labitems.
        items: the table, typed.

    Raises:
        InputError: an item is called otherwise, as in MIMIC-IV v3.0.
    """
    names = items.with_columns(pl.col("label", "fluid").fill_null("").str.strip_chars().str.to_lowercase())
    for itemid, line, *found in names.select("itemid", "line", "label", "fluid").iter_rows():
        expected = _LAB_ITEMS.get(itemid)
        if expected and tuple(found) != expected:
            what = f"{path}: line {line}: item {itemid} must be {' in '.join(expected)}; it is {' in '.join(found)}"
            raise InputError(f"{what}. {_WRONG_RELEASE}", hint="get v3.1 or later, or v2.2")


def refine_version(layout: Layout, patients: pl.DataFrame) -> str:
    """The release, told further by the years that the patients' table covers.

    Headers of v2.2 and v3.1 are the same; only v3 has patients anchored in 2020 - 2022. A tree without such patients
    stays "v2/v3".
    """
    if layout.version == "v2/v3" and (patients["anchor_year_group"] == _V3_YEARS).any():
        return "v3"
    return layout.version


def find_films(root: Path, labels: str = "chexpert") -> dict[str, Path]:
    """Paths of the tables of a MIMIC-CXR-JPG tree (2.0.0 or 2.1.0; both name them 2.0.0).

    Args:
        root: the tree.
        labels: labeller, `chexpert` or `negbio`.

    Returns:
        Of "metadata", of the labeller, and of "test_labels", the radiologists' labels, where they are (2.1.0).

    Raises:
        InputError: the root is missing or unreadable, or a table is missing or there in several versions.
    """
    names = _listing(root)
    test = [name for name in names if re.fullmatch(r"mimic-cxr-\d+\.\d+\.\d+-test-set-labeled\.csv(\.gz)?", name)]
    found = {"test_labels": root / max(test)} if test else {}
    for table in ("metadata", labels):
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
    by_lower = {name.lower(): name for name in names}
    near = [by_lower[name] for name in difflib.get_close_matches(wanted, by_lower, n=1, cutoff=0.85)]
    looks = f"{ascii(near[0])[1:-1]} looks like it: give it its released name, or " if near else ""
    return f"{looks}get the table from PhysioNet, or check {option}"


def _nested_hint(root: Path, names: list[str]) -> str:
    inside = [name for name in names if (root / name / "icu").is_dir() or (root / name / "hosp").is_dir()]
    return f"try --mimic-root {root / inside[0]}" if inside else "--mimic-root is the folder that holds icu/ and hosp/"
