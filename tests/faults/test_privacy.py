"""What leaves a run: nothing by network, no id by text, and files for their owner's eyes alone."""

import csv
import gzip
import os
import shutil

import pytest

from faults.child import Fault
from faults.tiny import SHOWN

SHARED = ("report.html", "results.md", "results.csv", "results.tex", "curve.svg", "metrics.json", "tables.json")


def test_no_stage_reaches_for_the_network(finished):
    assert [step for step in finished[1].steps if step[0] == "network"] == []


def test_a_process_that_would_is_stopped(tmp_path, launch):
    """The test above can fail: the same watch ends a process at its first look for a host."""
    code = "import socket; self.local.busy = False; socket.create_connection(('192.0.2.1', 9))"
    done = launch("synth", "--out", tmp_path / "x", "--stays", 1, fault=Fault(do="run", code=code)).wait()
    assert done.code == 1 and any(kind == "network" for kind, _ in done.steps)


def test_a_run_writes_into_the_work_directory_alone(finished, tree):
    work, done = finished
    outside = {place for kind, place in done.steps if not place.startswith((str(work), "/dev/null"))}
    assert not outside
    assert not any(place.startswith(str(tree)) for _, place in done.steps)


def test_every_file_is_its_owners_alone_whatever_the_umask_was(finished):
    """The commands were started with umask 000."""
    paths = [finished[0], *finished[0].rglob("*")]
    assert {path.name for path in paths} >= {*SHOWN, "films.npy", "unreadable.csv"} - {"unreadable.csv"}
    modes = {path: path.stat().st_mode & 0o777 for path in paths}
    assert not {path: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)}


@pytest.mark.parametrize(("stage", "at"), [("films", "journal"), ("pretrain-ehr", "history"), ("extract", "attrition")])
def test_so_is_what_a_killed_run_leaves(copy, launch, stage, at):
    assert launch(*copy.without(stage).command(stage), fault=Fault(do="kill", at=at)).wait().code == -9
    left = [p for p in (copy.work.root / stage).rglob("*") if copy.made(stage).id in str(p)]
    assert any(p.suffix == ".lock" for p in left) and any(p.suffix == ".partial" for p in left)
    assert not [path for path in left if path.stat().st_mode & 0o077]


def test_what_is_made_to_be_shown_holds_no_id(finished, ids):
    """Logs and errors are searched wherever a command is launched here."""
    work, done = finished
    assert not ids.search(done.text)
    shown = [path for path in work.rglob("*") if path.name in SHARED]
    assert {path.parent.parent.name for path in shown} >= {"evaluate", "robustness", "report", "fuse", "pretrain-cxr"}
    for path in shown:
        assert not ids.search(path.read_text(encoding="utf-8")), path
    assert not [path for path in work.rglob("*") if ids.search(path.name)]


PATIENTS, ADMISSIONS, ICU = "mimic-iv/hosp/patients", "mimic-iv/hosp/admissions", "mimic-iv/icu/icustays"
METADATA = "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata"
FAILING = {
    "a patient twice": (PATIENTS, lambda rows: rows.append(rows[0])),
    "an admission twice": (ADMISSIONS, lambda rows: rows.append(rows[0])),
    "a stay twice": (ICU, lambda rows: rows.append(rows[0])),
    "a film twice": (METADATA, lambda rows: rows.append(rows[0])),
    "an id that is no number": (ADMISSIONS, lambda rows: rows[3].update(hadm_id=rows[3]["hadm_id"] + "x")),
    "an id with a fraction": (ICU, lambda rows: rows[3].update(stay_id=rows[3]["stay_id"] + ".5")),
}


def rewrite(path, change):
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    path.unlink()
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def roots(raw, work):
    return ("--mimic-root", raw / "mimic-iv", "--cxr-root", raw / "mimic-cxr-jpg", "--work-dir", work, "--jobs", 1)


@pytest.mark.parametrize("kind", FAILING)
def test_an_error_about_a_row_does_not_say_whose_it_is(tree, tmp_path, call, kind):
    """`call` searches what is printed."""
    raw = shutil.copytree(tree, tmp_path / "raw", copy_function=os.link)
    table, change = FAILING[kind]
    rewrite(raw / f"{table}.csv.gz", change)
    result = call("extract", *roots(raw, tmp_path / "work"))
    assert result.exit_code == 3 and f"{table}.csv.gz" in result.stderr, result.output


def test_a_damaged_film_is_told_without_its_ids(copy, tree, tmp_path, launch):
    raw = shutil.copytree(tree, tmp_path / "raw")
    for path in sorted(raw.rglob("*.jpg"))[::20]:
        path.write_bytes(b"no film")
    words = copy.without("films").command("films", "--cxr-root", raw / "mimic-cxr-jpg")
    done = launch(*words).wait()
    assert done.code == 3 and "bad among" in done.err
    done = launch(*words, "--max-bad-films", 1).wait()
    assert done.code == 0 and "treated as absent" in done.err


NAMES = ("../../../../../outside", "../../../../../../outside", "x/../../../../../../../outside", "/{root}/outside")


def test_names_in_the_metadata_do_not_lead_out_of_the_folder(tree, tmp_path, launch):
    raw = shutil.copytree(tree, tmp_path / "raw")
    for place in (tmp_path, raw, raw / "mimic-cxr-jpg"):
        shutil.copy(next(raw.rglob("*.jpg")), place / "outside.jpg")

    def change(rows):
        for row, name in zip(rows, NAMES, strict=False):
            row["dicom_id"] = name.format(root=tmp_path)

    rewrite(raw / f"{METADATA}.csv.gz", change)
    fault = Fault(do="refuse", event="read", at=r"outside/?\.jpg$")
    words = ("preprocess", *roots(raw, tmp_path / "work"), "--film-size", 32, "--max-bad-films", 1)
    done = launch(*words, fault=fault).wait()
    assert done.code == 0, done.text
    (listed,) = (tmp_path / "work/films").glob("*/unreadable.csv")
    reasons = listed.read_text()
    assert reasons.count("leaves the film folder") >= 3 and len(reasons.splitlines()) == 1 + len(NAMES), reasons
