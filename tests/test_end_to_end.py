"""The whole pipeline through the command line, on a tiny synthetic tree, and each stage again alone."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusionctl import cli, parquet
from fusionctl.cli import app
from fusionctl.workdir import Work

TINY = (
    "pretrain-ehr.epochs=2",
    "pretrain-ehr.hidden=16",
    "pretrain-cxr.epochs=1",
    "pretrain-cxr.input_size=32",
    "films.film_size=64",
    "fuse.epochs=1",
    "evaluate.resamples=50",
    "robustness.resamples=20",
)


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run_all(tree, work, *more):
    settings = [part for text in TINY for part in ("--set", text)]
    roots = ("--mimic-root", tree / "mimic-iv", "--cxr-root", tree / "mimic-cxr-jpg")
    return call("run", *roots, "--work-dir", work, "--preset", "demo", "--noise", "0.3", "--jobs", 1, *settings, *more)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Enough stays for every split to have films and both outcomes."""
    from fusionctl.data import synth

    root = tmp_path_factory.mktemp("odd") / "odd 'path[1]" / "raw"
    synth.write_tree(root, stays=240, layout="v2", seed=2)
    return root


@pytest.fixture(scope="module")
def finished(tree, tmp_path_factory):
    work = tmp_path_factory.mktemp("run") / "odd 'work[1]"
    result = run_all(tree, work)
    assert result.exit_code == 0, result.output
    return work, result


def test_the_run_ends_with_a_table_and_the_report(finished):
    _, result = finished
    page = Path(result.stdout.strip().splitlines()[-1])
    assert page.name == "report.html"
    assert "<svg" in page.read_text(encoding="utf-8")
    for word in ("AUROC", "attention", "ehr", "cxr", "trees"):
        assert word in result.stdout


def test_every_stage_left_one_artifact_a_model_and_nothing_half_written(finished):
    work = Work(finished[0])
    counts = {stage.name: len(work.artifacts(stage.name)) for stage in work.root.iterdir() if stage.is_dir()}
    assert counts == {
        "extract": 1,
        "films": 1,
        "preprocess": 1,
        "pretrain-ehr": 1,
        "pretrain-cxr": 1,
        "fuse": 4,
        "evaluate": 1,
        "cell": 6,  # three networks on the clean and on noisy input
        "robustness": 1,
        "report": 1,
    }
    assert work.leftovers() == []
    for name in counts:
        for artifact in work.artifacts(name):
            artifact.verify()
            assert artifact.manifest["sensitivity"] == "synthetic"


def test_a_second_run_does_nothing(tree, finished):
    before = {p: p.stat().st_mtime_ns for p in finished[0].rglob("*") if p.is_file()}
    result = run_all(tree, finished[0])
    assert result.exit_code == 0
    assert result.stderr.count("up to date") == 12
    assert {p: p.stat().st_mtime_ns for p in finished[0].rglob("*") if p.is_file()} == before


def test_a_dry_run_says_what_a_changed_setting_would_rerun(tree, finished):
    result = run_all(tree, finished[0], "--set", "fuse.lr=0.01", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "preprocess: up to date" in result.stderr
    assert re.search(r"fuse: would run .*lr: \S+ -> 0.01", result.stderr)
    assert "report: would run" in result.stderr


def test_a_stage_reruns_alone_and_gives_the_same_bytes(tree, finished):
    work = Work(finished[0])
    for name in ("preprocess", "pretrain-ehr"):
        before = work.artifacts(name)[0]
        flags = ["--films", work.artifacts("films")[0].id] if name == "preprocess" else []
        values = {n: e["value"] for n, e in before.manifest["settings"].items() if e["source"] != "default"}
        for setting, value in values.items():
            flag = setting.replace("_", "-")
            flags += (
                [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
            )
        result = call(name, "--work-dir", work.root, "--jobs", 1, "--force", *flags)
        assert result.exit_code == 0, result.output
        after = work.artifacts(name)
        assert [a.id for a in after] == [before.id]
        assert after[0].manifest["files"] == before.manifest["files"]


def test_every_file_is_readable_by_its_owner_alone(finished):
    for path in finished[0].rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_no_identifier_reaches_the_log_or_the_report(tree, finished):
    work, result = finished
    stays = parquet.read(Work(work).artifacts("extract")[0].file("stays.parquet"))
    ids = {str(i) for name in ("subject_id", "hadm_id", "stay_id") for i in stays[name]}
    page = Work(work).artifacts("report")[0].file("report.html").read_text(encoding="utf-8")
    for text in (result.output, page):
        assert not ids & set(re.findall(r"\d{8}", text))


def test_status_and_clean(finished):
    rows = json.loads(call("status", "--work-dir", finished[0], "--json").stdout)
    assert {r["stale"] for r in rows} == {None}
    assert call("status", "--work-dir", finished[0], "--check").exit_code == 0
    assert call("clean", "--work-dir", finished[0]).stdout == ""


def test_a_stage_without_its_upstream_names_the_command(tmp_path):
    result = call("fuse", "--work-dir", tmp_path / "w")
    assert result.exit_code == 3
    assert "run first: fusionctl preprocess" in result.stderr
    assert not (tmp_path / "w").exists()


def test_without_films_only_the_models_that_read_none_run(tree, tmp_path):
    settings = [part for text in TINY for part in ("--set", text)]
    root = ("--mimic-root", tree / "mimic-iv")
    result = call("run", *root, "--work-dir", tmp_path, "--preset", "demo", "--noise", "0.3", "--jobs", 1, *settings)
    assert result.exit_code == 0, result.output
    assert {a.setting("fusion") for a in Work(tmp_path).artifacts("fuse")} == {"ehr", "trees"}


def test_a_killed_run_leaves_nothing_visible_and_the_rerun_finishes(tree, tmp_path):
    roots = ["--mimic-root", str(tree / "mimic-iv"), "--cxr-root", str(tree / "mimic-cxr-jpg")]
    code = (
        "import os, fusionctl.stages.extract as e; from fusionctl.cli import main; whole = e.run\n"
        "def run(draft, *a, **k): whole(draft, *a, **k); os.kill(os.getpid(), 9)\n"
        "e.run = run; main()"
    )
    arguments = ["extract", *roots, "--work-dir", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, check=False, capture_output=True)
    assert killed.returncode == -9
    assert Work(tmp_path).artifacts("extract") == []
    assert len(Work(tmp_path).leftovers()) == 1
    assert call(*arguments).exit_code == 0
    assert len(Work(tmp_path).artifacts("extract")) == 1
    assert Work(tmp_path).leftovers() == []


def test_the_demo_makes_its_own_data_once_a_size(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_run", lambda values: None)
    made = []
    for stays in (20, 20, 30):
        result = call("demo", "--work-dir", tmp_path / "demo", "--stays", stays)
        assert result.exit_code == 0, result.output
        made.append((tmp_path / "demo" / "raw-20-0").stat().st_ino)
    assert len(set(made)) == 1
    monkeypatch.undo()
    result = call("demo", "--work-dir", tmp_path / "demo", "--stays", 20, "--dry-run")
    assert "report: would run" in result.stderr
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["raw-20-0", "raw-30-0"]


def rewrite(path, change):
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))


DAMAGE = {
    "missing table": ("icu/icustays", lambda p: p.unlink(), "table icustays is missing"),
    "renamed column": ("icu/icustays", lambda p: rewrite(p, lambda t: t.replace(b"intime", b"in_time", 1)), "'intime'"),
    "truncated": ("hosp/labevents", lambda p: p.write_bytes(p.read_bytes()[:9999]), "ends in the middle"),
    "another encoding": ("hosp/admissions", lambda p: rewrite(p, lambda t: t.replace(b"ENGLISH", b"\xe9", 3)), "UTF-8"),
    "text for a number": (
        "hosp/patients",
        lambda p: rewrite(p, lambda t: t.replace(b",F,", b",F,old", 1)),
        "anchor_age",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_bad_input_is_one_clear_error_and_nothing_is_left(tree, tmp_path, kind):
    table, damage, words = DAMAGE[kind]
    root = shutil.copytree(tree / "mimic-iv", tmp_path / "mimic-iv")
    damage(root / f"{table}.csv.gz")
    result = call("preprocess", "--mimic-root", root, "--work-dir", tmp_path / "work", "--jobs", 1)
    assert result.exit_code == 3, result.output
    assert table.split("/")[1] in result.stderr and words in result.stderr and "  -> " in result.stderr
    assert "Traceback" not in result.output
    assert Work(tmp_path / "work").artifacts("extract") == []
    assert Work(tmp_path / "work").leftovers() == []
