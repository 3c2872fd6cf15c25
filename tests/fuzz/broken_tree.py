"""A synthetic tree to break: made once, and linked for every case, so that only what is damaged is copied."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from fusionctl.data import synth

STAYS = 30
# The tables that extract reads, and where they are in the tree.
TABLES = {
    "patients": "mimic-iv/hosp/patients.csv.gz",
    "admissions": "mimic-iv/hosp/admissions.csv.gz",
    "icustays": "mimic-iv/icu/icustays.csv.gz",
    "diagnoses_icd": "mimic-iv/hosp/diagnoses_icd.csv.gz",
    "d_labitems": "mimic-iv/hosp/d_labitems.csv.gz",
    "chartevents": "mimic-iv/icu/chartevents.csv.gz",
    "labevents": "mimic-iv/hosp/labevents.csv.gz",
    "metadata": "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz",
    "chexpert": "mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz",
    "test_labels": "mimic-cxr-jpg/mimic-cxr-2.1.0-test-set-labeled.csv.gz",
}
# Items that are in every tree, as records name them.
HEART_RATE, GLUCOSE, EYES = ("220045",), ("50931",), ("220739",)
Rows = list[list[str]]


class BrokenTree:
    """A copy of the good tree in hard links. Damages go through `put`, which never writes into a linked file.

    Attributes:
        root: holds mimic-iv/ and mimic-cxr-jpg/.
        arguments: added to the command that reads the tree.
        lone: the row of icustays of a kept stay whose patient has no other, as text.
    """

    def __init__(self, good: Path, folder: Path) -> None:
        shutil.copytree(good, folder, copy_function=os.link)
        self.root = folder
        self.mimic, self.cxr = folder / "mimic-iv", folder / "mimic-cxr-jpg"
        self.arguments: list[str] = []
        self.lone: dict[str, str] = {}

    def path(self, table: str) -> Path:
        folder, _, name = TABLES[table].partition("/")
        return (self.mimic if folder == "mimic-iv" else self.cxr) / name

    def replace(self, path: Path, data: bytes) -> Path:
        """Put a file in place of one that may be a link."""
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def raw(self, table: str) -> bytes:
        return self.path(table).read_bytes()

    def put_raw(self, table: str, data: bytes) -> None:
        self.replace(self.path(table), data)

    def data(self, table: str) -> bytes:
        return gzip.decompress(self.raw(table))

    def put(self, table: str, data: bytes | str) -> None:
        data = data if isinstance(data, bytes) else data.encode()
        self.put_raw(table, gzip.compress(data, compresslevel=1, mtime=0))

    def change(self, table: str, change: Callable[[bytes], bytes]) -> None:
        self.put(table, change(self.data(table)))

    def rows(self, table: str) -> Rows:
        """All records, the header first."""
        return list(csv.reader(io.StringIO(self.data(table).decode(), newline="")))

    def put_rows(self, table: str, rows: Sequence[Sequence[str]], **form: object) -> None:
        out = io.StringIO()
        csv.writer(out, **({"lineterminator": "\n"} | form)).writerows(rows)
        self.put(table, out.getvalue())

    def set(self, table: str, column: str, value: str, *, records: Sequence[int] = (1,)) -> None:
        """Set a column of some records; record 1 is the first after the header."""
        rows = self.rows(table)
        place = rows[0].index(column)
        for record in records:
            rows[record][place] = value
        self.put_rows(table, rows)

    def set_all(self, table: str, column: str, value: Callable[[str], str]) -> None:
        rows = self.rows(table)
        place = rows[0].index(column)
        self.put_rows(table, [rows[0], *([*r[:place], value(r[place]), *r[place + 1 :]] for r in rows[1:])])

    def records(self, table: str, column: str, among: Sequence[str]) -> list[int]:
        """Numbers of the records whose column is one of some texts."""
        rows = self.rows(table)
        place = rows[0].index(column)
        return [i for i, row in enumerate(rows) if i and row[place] in among]

    def set_of(self, table: str, key: str, value: str, column: str, to: str) -> None:
        """Set a column of the records whose key has a value."""
        self.set(table, column, to, records=self.records(table, key, [value]))

    def drop(self, table: str, key: str, value: str) -> None:
        """Remove the records whose key has a value."""
        gone = set(self.records(table, key, [value]))
        self.put_rows(table, [row for i, row in enumerate(self.rows(table)) if i not in gone])

    def of_stay(self, table: str, items: Sequence[str] = ()) -> list[int]:
        """Numbers of the records of the lone stay's admission; of these items only, if any are given."""
        records = self.records(table, "hadm_id", [self.lone["hadm_id"]])
        chosen = set(self.records(table, "itemid", items)) if items else set(records)
        found = [i for i in records if i in chosen]
        assert found, (table, items)
        return found

    def films(self) -> list[Path]:
        return sorted(self.cxr.glob("files/*/*/*/*"))

    def put_film(self, data: bytes, number: int = 0) -> Path:
        return self.replace(self.films()[number], data)


def write_good(folder: Path) -> Path:
    """The good tree: small, with every table that extract can read."""
    synth.write_tree(folder, stays=STAYS, layout="v2", seed=3)
    tree = BrokenTree.__new__(BrokenTree)
    tree.root, tree.mimic, tree.cxr = folder, folder / "mimic-iv", folder / "mimic-cxr-jpg"
    rows = tree.rows("chartevents")
    tree.put_rows("chartevents", [rows[0], *rows[1::12]])
    labels = tree.rows("chexpert")
    names = ["study_id", *labels[0][2:]]
    names[names.index("Lung Opacity")] = "Airspace Opacity"
    tree.put_rows("test_labels", [names, *([row[1], *row[2:]] for row in labels[1:4])])
    return folder
