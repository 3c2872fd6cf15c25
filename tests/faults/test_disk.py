"""A disk that is full, raw data that cannot be read, inputs that change: one clear error, and nothing old is harmed."""

import re
import shutil

import pytest

from faults.child import Fault
from faults.tiny import SHOWN

FAILED = re.compile(r"^error: (?P<said>.*)\n  -> .+\n\Z", re.MULTILINE | re.DOTALL)


def said(done):
    """The one error that a command ended with."""
    found = FAILED.search(done.err)
    assert found, done.err
    assert "Traceback" not in done.err and "internal error" not in done.err
    return found["said"]


@pytest.mark.parametrize("stage", SHOWN)
def test_a_full_disk_is_one_clear_error_and_the_rerun_goes_on(copy, launch, stage):
    before = copy.without(stage).listed()
    for at in (r"\.partial$", r"\.partial/manifest\.json$"):  # its first step, and its last
        done = launch(*copy.command(stage), fault=Fault(do="full", at=at)).wait()
        assert done.code == 1, done.text
        assert said(done).startswith(f"{stage}: the disk is full: ")
        assert copy.listed() == before
        assert not list((copy.work.root / stage).glob("*.lock"))
    if stage in ("films", "preprocess", "pretrain-ehr"):  # each its own kind of what is kept; the rest takes long
        done = launch(*copy.command(stage)).wait()
        assert done.code == 0, done.text
        copy.check_whole(stage)


@pytest.mark.parametrize("stage", SHOWN)
def test_a_write_that_fails_half_way_is_one_clear_error(copy, launch, stage):
    """Whoever writes, Python, polars or safetensors: the limit is the system's own."""
    before = copy.without(stage).listed()
    largest = max(entry["size"] for entry in copy.made(stage).manifest["files"].values())
    done = launch(*copy.command(stage), fault=Fault(file_size=max(4096, largest // 2))).wait()
    assert done.code == 1, done.text
    assert said(done).startswith(f"{stage}: a file may not grow as large as it must")
    assert copy.listed() == before


def test_a_forced_run_on_a_full_disk_keeps_the_old_artifact(copy, launch):
    before = copy.listed()
    fault = Fault(do="full", at=r"/[0-9a-f]{12}$", event="rename")
    done = launch(*copy.command("evaluate", "--force"), fault=fault).wait()
    assert done.code == 1 and "the disk is full" in said(done)
    assert copy.listed() == before
    copy.check_whole("evaluate")


@pytest.mark.parametrize("at", [r"write-test", r"\.lock", r"/extract$"])
def test_a_work_directory_without_room_is_one_clear_error(tree, tmp_path, launch, at):
    work = tmp_path / "work"
    words = ("extract", "--mimic-root", tree / "mimic-iv", "--work-dir", work)
    done = launch(*words, fault=Fault(do="full", at=at)).wait()
    assert done.code == 1 and re.search("No space left|the disk is full", said(done)), done.text
    assert not list(work.glob("extract/*"))


# --- raw data


@pytest.fixture
def raw(tree, tmp_path):
    """A copy of the raw folders."""
    return shutil.copytree(tree, tmp_path / "raw")


def extract(raw, work):
    return ["extract", "--mimic-root", raw / "mimic-iv", "--cxr-root", raw / "mimic-cxr-jpg", "--work-dir", work]


APPEND = "with open({path!r}, 'ab') as file: file.write(b'\\n')"
IN_PLACE = "with open({path!r}, 'r+b') as file: file.write(b'\\x1f')"  # what it begins with anyway


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("mimic-iv/icu/chartevents.csv.gz", APPEND),
        ("mimic-iv/icu/chartevents.csv.gz", IN_PLACE),  # with digests listed, its size and digest stay
        ("mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", "os.remove({path!r})"),
        ("mimic-iv/hosp/new.csv", APPEND),
    ],
)
def test_raw_data_that_change_while_they_are_read_are_noticed(raw, tmp_path, launch, file, code):
    (raw / "mimic-iv/SHA256SUMS.txt").write_text("0123  icu/chartevents.csv.gz\n")
    fault = Fault(do="run", at=r"\.partial/attrition", code=code.format(path=str(raw / file)))
    done = launch(*extract(raw, tmp_path / "work"), fault=fault).wait()
    assert done.code == 3 and f"{raw / file} changed while extract ran; its result is not kept" in said(done), done.text
    assert list((tmp_path / "work/extract").iterdir()) == []


@pytest.mark.parametrize(
    ("stage", "upstream", "file", "at"),
    [("preprocess", "extract", "stays.parquet", "normaliser"), ("pretrain-ehr", "preprocess", "values.npy", "history")],
)
def test_an_input_that_changes_while_a_stage_runs_is_noticed(copy, launch, stage, upstream, file, at):
    path = copy.without(stage).own(upstream, file)
    done = launch(*copy.command(stage), fault=Fault(do="run", at=at, code=APPEND.format(path=str(path)))).wait()
    assert done.code == 3 and f"{path} changed while {stage} ran" in said(done), done.text
    assert list((copy.work.root / stage).iterdir()) == [], "a checkpoint that rests on it is no use either"


def test_raw_folders_that_vanish_are_one_clear_error(raw, copy, launch, tmp_path):
    code = f"os.rename({str(raw)!r}, {str(tmp_path / 'elsewhere')!r})"
    done = launch(*extract(raw, tmp_path / "w"), fault=Fault(do="run", at=r"\.partial$", code=code)).wait()
    assert done.code in (1, 3) and str(raw / "mimic-iv") in said(done), done.text
    assert list((tmp_path / "w/extract").iterdir()) == []
    done = launch(*extract(raw, tmp_path / "w")).wait()
    assert done.code == 3 and f"--mimic-root {raw / 'mimic-iv'}: no such directory" in said(done)
    words = copy.command("films", "--force", "--cxr-root", raw / "mimic-cxr-jpg")  # the last one counts
    done = launch(*words).wait()
    assert done.code == 3 and f"{raw / 'mimic-cxr-jpg'}: no such" in said(done)
    assert copy.listed()["films"] == {copy.made("films").id}


@pytest.mark.parametrize(("table", "at"), [("icu/chartevents", r"chartevents"), ("hosp/patients", r"patients")])
def test_a_table_that_may_not_be_read_is_named(tree, tmp_path, launch, table, at):
    fault = Fault(do="refuse", event="read", at=at)
    done = launch(*extract(tree, tmp_path / "work"), fault=fault).wait()
    assert done.code in (1, 3) and f"{table}.csv.gz: Permission denied" in said(done), done.text
    assert not list((tmp_path / "work").glob("extract/*"))


def test_films_that_may_not_be_read_are_one_clear_error(copy, launch):
    copy.without("films")
    done = launch(*copy.command("films"), fault=Fault(do="refuse", event="read", at=r"/files/p1.*jpg$")).wait()
    assert done.code == 3 and "cannot be read: Permission denied" in said(done), done.text
    assert copy.listed()["films"] == set()
