"""Usage errors, help and the frame of every command."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from fusionctl import cli, options
from fusionctl.data import film_cache, synth
from fusionctl.data.variables import VARIABLES
from fusionctl.errors import UsageError
from fusionctl.stages import STAGES
from fusionctl.workdir import Work


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def test_help_lists_every_stage_and_every_setting():
    text = call("--help").stdout
    for stage in (stage for stage in STAGES.values() if not stage.hidden):
        assert stage.name in text
        shown = call(stage.name, "--help").stdout
        for name in stage.settings.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in shown, (stage.name, name)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fuse", "--lr", "nan"], 2, "--lr must be a number"),
        (["fuse", "--preset", "papr"], 2, "--preset must be one of"),
        (["fuse", "--seed", "-1"], 2, "--seed must be >= 0"),
        (["fuse", "--jobs", "0"], 2, "--jobs >= 1"),
        (["run"], 2, "run needs --mimic-root"),
        (["run", "--mimic-root", ".", "--models", "guess"], 2, "'guess' is not a model"),
        (["run", "--mimic-root", ".", "--models", "attention"], 2, "reads films"),
        (["extract"], 2, "extract needs --mimic-root"),
        (["extract", "--mimic-root", "/nowhere"], 3, "no such directory"),
        (["synth"], 2, "needs --out"),
        (["synth", "--out", "x", "--cxr-only"], 2, "--mimic-root"),
        (["fuse", "--config", "/nowhere.toml"], 2, "/nowhere.toml"),
        (["status", "--work-dir", ""], 2, "--work-dir is empty\n  -> is a variable unset?"),
        (["demo", "--work-dir", ""], 2, "--work-dir is empty"),
        (["extract", "--mimic-root", ""], 2, "--mimic-root is empty"),
        (["preprocess", "--mimic-root", ".", "--cxr-root", ""], 2, "--cxr-root is empty"),
        (["preprocess", "--split-file", ""], 2, "--split-file is empty"),
        (["fuse", "--stage-to", ""], 2, "--stage-to is empty"),
        (["fuse", "--config", ""], 2, "--config is empty"),
        (["synth", "--out", ""], 2, "--out is empty"),
        (["extract", "--mimic-root", ".", "--work-dir", "w\udcff"], 2, "--work-dir must be UTF-8; got 'w\\udcff'"),
        (["demo", "--work-dir", "w\udcff"], 2, "--work-dir must be UTF-8"),
    ],
)
def test_wrong_usage_is_one_clear_error(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_internal_error_shows_its_place_but_not_its_text():
    def body(values):
        raise ValueError("row of patient 12345678")

    import typer

    app = typer.Typer()
    app.command("x")(options.command_with(body, options.common_parameters(())))
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 1
    assert re.search(r"internal error: ValueError at test_cli.py:\d+", result.stderr)
    assert "12345678" not in result.output


def test_ctrl_c_is_exit_code_130():
    def body(values):
        raise KeyboardInterrupt

    import typer

    app = typer.Typer()
    app.command("x")(options.command_with(body, options.common_parameters(())))
    assert CliRunner().invoke(app, []).exit_code == 130


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("3/16", (3, 16)), (" 2/2 ", (2, 2))])
def test_a_share(text, shard):
    assert options.parse_shard(text) == shard


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "1", "1/", "/2", "-1/2", "1/0", "a/b", "1.0/2", "1/2/3", "", "1/9999999"]
)
def test_what_is_no_share(text):
    with pytest.raises(UsageError) as caught:
        options.parse_shard(text)
    assert f"--shard takes I/N with 1 <= I <= N; got {text!r}" in caught.value.message and caught.value.hint


# --- from raw files to arrays


FILM_FLAGS = ("--film-size", 32, "--jobs", 1)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd 'tree") / "raw"
    synth.write_tree(root, stays=40, layout="v2", seed=5)
    return root


def roots(tree):
    return ("--mimic-root", tree / "mimic-iv", "--cxr-root", tree / "mimic-cxr-jpg")


def artifacts(work, stage):
    return Work(work).artifacts(stage)


def done(result):
    assert result.exit_code == 0, result.output
    return Path(result.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def made(tree, tmp_path_factory):
    """extract and films by preprocess itself, then the same of protocol legacy."""
    work = tmp_path_factory.mktemp("w")
    paper = call("preprocess", *roots(tree), "--work-dir", work, *FILM_FLAGS)
    legacy = call("preprocess", *roots(tree), "--work-dir", work, *FILM_FLAGS, "--protocol", "legacy")
    return work, paper, legacy


def test_preprocess_runs_extract_and_films_by_itself(made):
    work, paper, _ = made
    folder = done(paper)
    assert folder.parent.name == "preprocess" and folder.is_dir()
    for title in ("What each rule left out", "Hours from the film to the end of the input"):
        assert title in paper.stdout
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["inputs"]) == {"extract", "films"}
    films = np.load(folder / "films.npy", mmap_mode="r")
    assert films.shape == (Work(work).artifacts("extract")[0].manifest["rows"]["films"], 32, 32) and films.any()


def test_both_protocols_share_one_cache_of_films(made):
    work, paper, legacy = made
    done(paper), done(legacy)
    assert sorted(a.setting("protocol") for a in artifacts(work, "extract")) == ["legacy", "paper"]
    assert len({a.id for a in artifacts(work, "extract")}) == 2
    (films,) = artifacts(work, "films")
    assert f"films: up to date ({films.id})" in legacy.stderr
    both = artifacts(work, "preprocess")
    assert [a.manifest["inputs"]["films"] for a in both] == [films.id] * 2
    assert {a.manifest["inputs"]["extract"] for a in both} == {a.id for a in artifacts(work, "extract")}
    assert all(os.path.samefile(films.file("films.npy"), a.file("films.npy")) for a in both)
    assert {a.file("values.npy").read_bytes() == both[0].file("values.npy").read_bytes() for a in both} == {True, False}


def test_the_extract_of_the_protocol_is_chosen_without_asking(made):
    work, *_ = made
    before = {a.id for a in artifacts(work, "extract")}
    result = call("preprocess", "--work-dir", work, *FILM_FLAGS, "--protocol", "legacy", "--timestep", 4)
    manifest = json.loads((done(result) / "manifest.json").read_text())
    extract = next(a for a in artifacts(work, "extract") if a.id == manifest["inputs"]["extract"])
    assert extract.setting("protocol") == "legacy" and {a.id for a in artifacts(work, "extract")} == before
    shutil.rmtree(done(result))
    paper = next(a for a in artifacts(work, "extract") if a.setting("protocol") == "paper")
    wrong = call("preprocess", "--work-dir", work, "--protocol", "legacy", "--extract", paper.id)
    assert wrong.exit_code == 2 and "was made with protocol paper, not legacy" in wrong.stderr
    assert call("films", "--work-dir", work, *FILM_FLAGS).exit_code == 0  # either extract will do
    assert len(artifacts(work, "films")) == 1


def test_status_and_clean_with_shared_films(made, tmp_path):
    work = tmp_path / "copy"
    shutil.copytree(made[0], work)
    rows = json.loads(call("status", "--work-dir", work, "--json").stdout)
    assert sorted(r["stage"] for r in rows) == ["extract", "extract", "films", "preprocess", "preprocess"]
    assert {r["stale"] for r in rows} == {None}
    (films,) = artifacts(work, "films")
    shutil.rmtree(Work(work).path("extract", films.manifest["inputs"]["extract"]))
    rows = json.loads(call("status", "--work-dir", work, "--json").stdout)
    assert {r["stage"]: r["stale"] for r in rows if r["stale"]} == {"preprocess": "its extract is gone"}
    assert call("status", "--work-dir", work, "--check").exit_code == 4
    listed = call("clean", "--work-dir", work)
    assert listed.exit_code == 0 and films.id not in listed.stdout
    assert call("clean", "--work-dir", work, "--yes").exit_code == 0
    assert [a.id for a in artifacts(work, "films")] == [films.id]


def test_shares_of_the_films_and_the_run_after_them_make_the_same_bytes(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(film_cache, "BLOCK_FILMS", 4)
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    for work in (whole, shared):
        done(call("extract", *roots(tree), "--work-dir", work))
    done(call("films", "--work-dir", whole, *FILM_FLAGS))
    for share in ("1/2", "2/2"):
        result = call("films", "--work-dir", shared, *FILM_FLAGS, "--shard", share)
        assert result.exit_code == 0 and result.stdout == "", result.output
        assert artifacts(shared, "films") == [] and len(Work(shared).leftovers()) == 1
    result = call("films", "--work-dir", shared, *FILM_FLAGS)
    done(result)
    (one,), (two,) = artifacts(whole, "films"), artifacts(shared, "films")
    assert one.id == two.id and one.manifest["files"] == two.manifest["files"]
    assert set(one.manifest["files"]) == {"films.npy", "films.parquet"}
    assert one.file("films.npy").read_bytes() == two.file("films.npy").read_bytes()
    assert Work(shared).leftovers() == []
    again = call("films", "--work-dir", shared, *FILM_FLAGS, "--shard", "1/2")
    assert again.exit_code == 0 and f"films: up to date ({two.id})" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["preprocess", "--split-file", "lists", "--folds", 5], 2, "--split-file and --folds both say"),
        (["preprocess", "--folds", 2], 2, "--folds must be at least 3"),
        (["preprocess", "--impute", "next"], 2, "next"),
        (["preprocess", "--film-window", "5:1"], 2, "--film-window must be FROM:TO"),
        (["preprocess", "--split-file", "/nowhere"], 3, "--split-file /nowhere: no such file"),
        (["preprocess", "--clahe", "--film-size", 36], 2, "--film-size must be a multiple of 8"),
        (["films", "--shard", "3/2"], 2, "--shard takes I/N"),
        (["pretrain-cxr", "--init", "/nowhere"], 3, "--init /nowhere: no such file"),
    ],
)
def test_wrong_options_of_preprocess_and_films(made, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    Path("lists").mkdir()
    Path("lists/testset.csv").write_text("1,1\n")
    Path("lists/valset.csv").write_text("2,1\n")
    size = ("--film-size", 32) if arguments[0] == "preprocess" and "--film-size" not in arguments else ()
    result = call(*arguments, *size, "--work-dir", made[0])
    assert result.exit_code == code and message in result.stderr.replace("\n", " "), result.output
    assert "Traceback" not in result.output


def test_split_file_and_window_through_the_command_line(made, tmp_path):
    work, paper, _ = made
    usual = pl.read_parquet(done(paper) / "samples.parquet")
    patients = sorted(set(usual["subject_id"]))
    table = tmp_path / "split.csv"
    split = {p: "test" if i % 4 == 0 else "val" if i % 4 == 1 else "train" for i, p in enumerate(patients)}
    table.write_text("subject_id,split\n" + "".join(f"{p},{s}\n" for p, s in split.items()))
    ids = []
    for flags in (("--split-file", table), ("--split-file", table, "--window-hours", 24, "--impute", "zero")):
        folder = done(call("preprocess", "--work-dir", work, *FILM_FLAGS, *flags))
        samples = pl.read_parquet(folder / "samples.parquet")
        assert samples["split"].to_list() == [split.get(p, "train") for p in samples["subject_id"]]
        ids.append(folder.name)
    assert set(samples["window_hours"]) == {24.0} and len(samples) > len(usual)
    values = np.load(folder / "values.npy")
    assert (values[:, [not v.is_categorical for v in VARIABLES]] == 0).any() and values.min() >= -1
    table.write_text(table.read_text().replace("test", "train", 1))
    changed = done(call("preprocess", "--work-dir", work, *FILM_FLAGS, "--split-file", table))
    assert changed.name not in ids
    for name in (*ids, changed.name):
        shutil.rmtree(work / "preprocess" / name)


def test_the_films_settings_of_preprocess_make_another_cache(made, tmp_path):
    work = tmp_path / "copy"
    shutil.copytree(made[0], work)
    flags = ("--work-dir", work, "--film-size", 32, "--jobs", 1, "--film-fit", "pad")
    done(call("preprocess", *flags, "--clahe"))
    fits = [(a.setting("film_fit"), a.setting("clahe")) for a in artifacts(work, "films")]
    assert sorted(fits) == [("pad", True), ("squeeze", False)]
    first = next(a for a in artifacts(work, "films") if not a.setting("clahe"))
    result = call("preprocess", *flags, "--films", first.id[:6], "--timestep", 3)
    assert json.loads((done(result) / "manifest.json").read_text())["inputs"]["films"] == first.id
    assert len(artifacts(work, "films")) == 2


def test_a_dry_run_of_preprocess_and_of_a_share_writes_nothing(tree, tmp_path):
    result = call("preprocess", *roots(tree), "--work-dir", tmp_path / "w", "--dry-run")
    assert result.exit_code == 0, result.output
    for stage in ("extract", "films", "preprocess"):
        assert f"{stage}: would run" in result.stderr
    assert not (tmp_path / "w").exists()
    done(call("extract", *roots(tree), "--work-dir", tmp_path / "w"))
    before = sorted(tmp_path.rglob("*"))
    result = call("films", "--work-dir", tmp_path / "w", "--shard", "1/2", "--dry-run")
    assert result.exit_code == 0 and "films: would run share 1 of 2" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_the_demo_writes_nothing(tmp_path):
    result = call("demo", "--work-dir", tmp_path / "d", "--stays", 20, "--dry-run")
    assert result.exit_code == 0 and "would write 20 synthetic stays" in result.stdout
    assert not (tmp_path / "d").exists()


def test_synth_takes_a_root_for_films_alone(tmp_path):
    result = call("synth", "--out", tmp_path / "s", "--mimic-root", tmp_path, "--stays", 1)
    assert result.exit_code == 0 and "with --cxr-only films are made for its stays" in result.stderr


def test_clean_names_what_a_stopped_training_would_lose_and_leaves_what_is_not_its_own(tmp_path):
    draft, foreign = tmp_path / "fuse" / f"{'a' * 12}.partial", tmp_path / "Downloads" / "thesis.partial"
    for folder in (draft, foreign):
        folder.mkdir(parents=True)
    (draft / "checkpoint.safetensors").write_bytes(b"x")
    listed = call("clean", "--work-dir", tmp_path)
    assert listed.stdout.split() == [str(draft)] and "1 with the checkpoint of a stopped training" in listed.stderr
    assert call("clean", "--work-dir", tmp_path, "--yes").exit_code == 0
    assert foreign.is_dir() and not draft.exists()
