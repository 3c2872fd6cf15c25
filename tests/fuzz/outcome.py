"""What must happen to a damaged tree, and the run that shows it."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from broken_tree import TABLES, BrokenTree
from typer.testing import CliRunner

from fusionctl.cli import app

SECONDS = 60  # a case takes about one, even on a busy machine; a hang has no end
MOST_BYTES = 700 << 20  # of a case with a bomb: what it adds to the memory that the process has anyway
FILM_SIZE = 32
_EXTRACTED = ("stays.parquet", "events.parquet", "diagnoses.parquet", "films.parquet")
_INPUTS = ("values.npy", "observed.npy", "films.npy", "samples.parquet", "pairs.parquet", "normaliser.json")


@dataclass(frozen=True)
class Run:
    """One run of `preprocess` from raw folders, which runs `extract` and `films` too."""

    code: int
    stdout: str
    stderr: str
    work: Path
    tree: BrokenTree
    grown: int  # bytes by which memory grew beyond where it was before

    def folder(self, stage: str) -> Path:
        (found,) = (p for p in (self.work / stage).iterdir() if p.is_dir() and (p / "manifest.json").exists())
        return found

    def contents(self, stage: str) -> dict[str, bytes]:
        names = _EXTRACTED if stage == "extract" else _INPUTS
        return {name: (self.folder(stage) / name).read_bytes() for name in names}

    def attrition(self) -> list[dict[str, Any]]:
        stages = ("extract", "preprocess") if (self.work / "preprocess").exists() else ("extract",)
        return [
            {**entry, "table": f"{stage}: {entry['table']}"}
            for stage in stages
            for entry in json.loads((self.folder(stage) / "attrition.json").read_text())
        ]


def preprocess(tree: BrokenTree, work: Path) -> Run:
    """Run `preprocess` on a tree within the time limit."""

    def expire(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    roots = ("--mimic-root", tree.mimic, "--cxr-root", tree.cxr, "--work-dir", work)
    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(SECONDS)
    start = _peak(reset=True)
    try:
        flags = ("--jobs", 1, "--film-size", FILM_SIZE, "--json", *tree.arguments)
        result = CliRunner().invoke(app, [str(a) for a in ("preprocess", *roots, *flags)])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return Run(result.exit_code, result.stdout, result.stderr, work, tree, _peak() - start)


def _peak(*, reset: bool = False) -> int:
    """Bytes of memory at the highest so far, or since the last reset where the system can do that."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Good:
    """The good tree, its result, and its ids, which no output may hold."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self._folder, self._cases, self.lone = root, folder, 0, {}
        tree = self.tree()
        self.run = preprocess(tree, folder / "work")
        assert self.run.code == 0, self.run.stderr
        self.extracted, self.inputs = self.run.contents("extract"), self.run.contents("preprocess")
        stays = pl.read_parquet(self.run.folder("extract") / "stays.parquet")
        films = pl.read_parquet(self.run.folder("extract") / "films.parquet")
        columns = ("subject_id", "hadm_id", "stay_id")
        ids = {str(i) for name in columns for row in [tree.rows("icustays")] for i in _column(row, name)}
        ids |= {str(i) for i in films["study_id"]} | set(films["dicom_id"])
        self.ids = re.compile("|".join(rf"(?<!\d){re.escape(i)}(?!\d)" for i in sorted(ids)))
        self.lone = self._lone(tree, stays)

    def tree(self) -> BrokenTree:
        self._cases += 1
        tree = BrokenTree(self.root, self._folder / f"case-{self._cases}" / "raw")
        tree.lone = self.lone
        return tree

    def _lone(self, tree: BrokenTree, stays: pl.DataFrame) -> dict[str, str]:
        """A kept stay of a patient without another, with enough rows of every kind to break some."""
        header, *rows = tree.rows("icustays")
        found = [dict(zip(header, row, strict=True)) for row in rows]
        patients = [row["subject_id"] for row in found]
        kept = {str(i) for i in stays["stay_id"]}
        for row in found:
            tree.lone = row
            if row["stay_id"] in kept and patients.count(row["subject_id"]) == 1 and _rich(tree):
                return row
        raise AssertionError("no stay of the good tree fits")

    def try_out(self, *damages: Callable[[BrokenTree], None]) -> Run:
        """Break a tree in one or more ways and read it. Films that the good run has read are not read again.

        What the first damage has destroyed, a second one may find nothing in to damage: then there is only the first.
        """
        tree = self.tree()
        for turn, damage in enumerate(damages):
            try:
                damage(tree)
            except Exception:
                if not turn:
                    raise
        work = tree.root.parent / "work"
        if (self.run.work / "films").exists() and not _films_differ(tree.cxr, self.root / "mimic-cxr-jpg"):
            shutil.copytree(self.run.work / "films", work / "films", copy_function=os.link)
        return preprocess(tree, work)


def _rich(tree: BrokenTree) -> bool:
    wanted = (("chartevents", ["220045"]), ("chartevents", ["220739"]), ("labevents", ["50931"]), ("diagnoses_icd", []))
    own = {table: set(tree.records(table, "hadm_id", [tree.lone["hadm_id"]])) for table, _ in wanted}
    return all(len(own[t] & set(tree.records(t, "itemid", i)) if i else own[t]) >= 3 for t, i in wanted)


def _films_differ(cxr: Path, good: Path) -> bool:
    """Whether a film was changed: its file is then no link to the good tree's."""
    for path in good.glob("files/*/*/*/*"):
        found = cxr / path.relative_to(good)
        if found.is_symlink() or not found.exists() or found.stat().st_ino != path.stat().st_ino:
            return True
    return False


def _column(rows: list[list[str]], name: str) -> list[str]:
    return [row[rows[0].index(name)] for row in rows[1:]]


def check_output(run: Run, good: Good) -> None:
    """What holds of every run: no bug's text, no id of a patient, no gigabytes, and an error that says what to do."""
    said = run.stdout + run.stderr
    for text in ("Traceback", "internal error", "panicked"):
        assert text not in said, said[-2000:]
    assert not (found := good.ids.search(said.replace(str(run.work.parent), ""))), f"{found}: {said[-1000:]}"
    assert run.code in (0, 3), said[-2000:]
    assert run.grown < MOST_BYTES, f"{run.grown / 1e6:.0f} MB"
    if run.code:
        assert len(re.findall(r"^error: ", run.stderr, re.MULTILINE)) == 1 and "\n  -> " in run.stderr, run.stderr
        shown = run.stderr[run.stderr.index("error: ") :]
        assert len(shown) < 2000 and not re.search(r"[\0-\x08\x0b-\x1f]", shown), shown[:3000]
        assert not list(run.work.glob("extract/*/stays.parquet")) or "film" in shown or "preprocess" in run.stderr
        return
    _check_sums(run)


def _check_sums(run: Run) -> None:
    """Nothing is lost without a count: what was in the file is what was kept and what rules dropped."""
    entries = run.attrition()
    for earlier, later in zip(entries, entries[1:], strict=False):
        assert later["table"] != earlier["table"] or later["before"] == earlier["kept"]
    assert all(e["kept"] == e["before"] - e["dropped"] >= 0 <= e["dropped"] for e in entries)
    first = {e["table"]: e["before"] for e in reversed(entries)}
    last = {e["table"]: e["kept"] for e in entries}
    rows = json.loads((run.folder("extract") / "manifest.json").read_text())["rows"]
    assert last["extract: icustays"] == rows["stays"] and last["extract: diagnoses_icd"] == rows["diagnoses"]
    assert last["extract: films"] == rows["films"] == first["preprocess: films"]
    if "legacy" not in run.tree.arguments:
        kept = last["extract: chartevents"] + last["extract: labevents"]
        assert kept == rows["events"] - rows["coma_totals"]
    for table, name in (("icustays",) * 2, ("chartevents",) * 2, ("labevents",) * 2, ("films", "metadata")):
        assert first[f"extract: {table}"] == _count(run.tree.path(name)), table


def _count(path: Path) -> int:
    """Records after the header, counted by another reader."""
    plain = path.with_suffix("")
    data = gzip.decompress(path.read_bytes()) if path.exists() else plain.read_bytes()
    outside_quotes = b"".join(data.split(b'"')[::2])
    return sum(1 for line in outside_quotes.split(b"\n") if line.strip()) - 1


@dataclass(frozen=True)
class Error:
    """Exit code 3; the message names the table's file, and says where or what."""

    says: str
    file: str = ""  # a table, or part of the message; of a damage to one table: that table's file

    def check(self, run: Run, good: Good, table: str) -> None:
        assert run.code == 3, f"exit code {run.code}: {run.stderr[-500:]}"
        file = self.file or (Path(TABLES[table]).name.removesuffix(".gz") if table else "")
        assert file in run.stderr and re.search(self.says, run.stderr), run.stderr[-1500:]


@dataclass(frozen=True)
class Warned:
    """The run goes on and says how many."""

    says: str

    def check(self, run: Run, good: Good, table: str) -> None:
        assert run.code == 0, run.stderr[-1500:]
        assert re.search(self.says, run.stderr), run.stderr[-1500:]


@dataclass(frozen=True)
class Counted:
    """A rule drops `n` more than of the good tree. The rule is named by its beginning."""

    rule: str
    n: int = 1
    table: str = ""  # as attrition.json calls it

    def check(self, run: Run, good: Good, table: str) -> None:
        assert run.code == 0, run.stderr[-1500:]
        before, after = (self._dropped(r, table) for r in (good.run, run))
        assert after - before == self.n, f"{before} -> {after}: {run.attrition()}"

    def _dropped(self, run: Run, table: str) -> int:
        where = (f"extract: {self.table or table}", f"preprocess: {self.table or table}")
        found = [e for e in run.attrition() if e["table"] in where and e["rule"].startswith(self.rule)]
        assert found or run.attrition(), self.rule
        return sum(e["dropped"] for e in found)


@dataclass(frozen=True)
class Same:
    """Harmless: the same arrays, and the same tables of extract unless only the inputs must be the same."""

    inputs_only: bool = False

    def check(self, run: Run, good: Good, table: str) -> None:
        assert run.code == 0, run.stderr[-1500:]
        found = run.contents("preprocess")
        assert found == good.inputs, [name for name in found if found[name] != good.inputs[name]]
        assert self.inputs_only or run.contents("extract") == good.extracted


@dataclass(frozen=True)
class Read:
    """Read as what it says: nothing tells it from good data, but nothing breaks and every row is counted."""

    def check(self, run: Run, good: Good, table: str) -> None:
        assert run.code == 0, run.stderr[-1500:]


Outcome = Error | Warned | Counted | Same | Read
