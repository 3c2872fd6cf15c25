"""One tiny run of the whole pipeline, made once, and copies of it to break."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faults.child import Done, Fault, Running
from faults.tiny import STAYS, Copy, run_all, write_tree
from fusionctl.cli import app

IDS = {
    "mimic-iv/hosp/patients": ["subject_id"],
    "mimic-iv/hosp/admissions": ["subject_id", "hadm_id"],
    "mimic-iv/icu/icustays": ["subject_id", "hadm_id", "stay_id"],
    "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata": ["subject_id", "study_id", "dicom_id"],
}


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """Raw folders of a few synthetic stays."""
    return write_tree(tmp_path_factory.mktemp("raw") / "tree")


@pytest.fixture(scope="session")
def ids(tree) -> re.Pattern[str]:
    """Any id of a patient, admission, stay, study or film of the tree."""
    found = set()
    for table, columns in IDS.items():
        (path,) = tree.glob(f"{table}.csv*")
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for row in csv.DictReader(file):
                found |= {row[column] for column in columns}
    assert len(found) > 4 * STAYS
    return re.compile("|".join(sorted(map(re.escape, found))))


@pytest.fixture(scope="session")
def launch(tmp_path_factory, ids):
    """Start a command in a process of its own. Whatever it prints, it prints no id: each test here looks for that."""
    folder, numbers = tmp_path_factory.mktemp("output"), itertools.count()

    def start(*arguments, fault: Fault | None = None) -> Running:
        return Running(folder / str(next(numbers)), [str(a) for a in arguments], fault or Fault(), heard)

    def heard(done: Done) -> None:
        assert not ids.search(done.text), done.text

    return start


@pytest.fixture
def call(ids):
    """Run a command that fails before it begins, in this process."""

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert not ids.search(result.output), result.output
        return result

    return run


@pytest.fixture(scope="session")
def finished(tree, tmp_path_factory, launch) -> tuple[Path, Done]:
    """A work directory in which nothing went wrong, and what the run that filled it said and did."""
    work = tmp_path_factory.mktemp("undisturbed") / "work"
    return work, run_all(tree, work, launch)


@pytest.fixture
def copy(finished, tmp_path) -> Copy:
    """A work directory to break."""
    return Copy(finished[0], tmp_path / "work")
