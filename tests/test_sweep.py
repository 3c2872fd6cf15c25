"""A sweep through the command line: cells are artifacts, made once, in shares, and merged."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from toy import publish, write_preprocessed
from typer.testing import CliRunner

from fusionctl import pipeline, resolve
from fusionctl.artifact import DIGEST, digest, to_json
from fusionctl.cli import app
from fusionctl.data.batch import StayData
from fusionctl.fusion import FUSIONS
from fusionctl.inventory import status_rows, superseded
from fusionctl.stages import STAGES, encoders_of
from fusionctl.workdir import Artifact, Work

SHORT = ("--jobs", 1, "--device", "cpu")
TRAIN = (*SHORT, "--epochs", 1, "--batch-size", 80, "--from-scratch")


def call(*arguments, **environment):
    small = {"FUSIONCTL_PRETRAIN_EHR_HIDDEN": "16", "FUSIONCTL_ROBUSTNESS_RESAMPLES": "20"}
    return CliRunner().invoke(app, [str(a) for a in arguments], env={**small, **environment})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work directory with one model of the series."""
    folder = tmp_path_factory.mktemp("trained")
    work = Work(folder / "work")
    publish(work, write_preprocessed(folder / "files", stays=144))
    result = call("fuse", "--work-dir", work.root, "--fusion", "ehr", *TRAIN)
    assert result.exit_code == 0, result.output
    return work.root


@pytest.fixture
def work(trained, tmp_path):
    """A copy of it whose files are the same ones."""
    root = tmp_path / "work"
    for path in sorted(trained.rglob("*")):
        target = root / path.relative_to(trained)
        if path.is_dir():
            target.mkdir(parents=True, mode=0o700)
        else:
            target.hardlink_to(path)
    return Work(root)


def sweep(work, *more, noise="0.3,0.6"):
    result = call("robustness", "--work-dir", work.root, "--noise", noise, *SHORT, *more)
    assert result.exit_code == 0, result.output
    return result


def cells(work):
    return {(a.setting("corruption"), a.setting("level"), a.setting("modality")) for a in work.artifacts("cell")}


def curve(artifact):
    return pl.read_parquet(artifact.file("curve.parquet"))


def test_what_a_model_reads_is_what_it_takes_encoders_of():
    for name, method in FUSIONS.items():
        assert tuple(n.removeprefix("pretrain-") for n in encoders_of(name)) == method.modalities, name


def test_a_sweep_makes_one_cell_a_point_and_a_wider_one_only_what_is_new(work):
    first = sweep(work)
    assert "robustness: 3 cells, 3 of them to make" in first.stderr
    assert cells(work) == {("clean", 0.0, ""), ("noise", 0.3, "ehr"), ("noise", 0.6, "ehr")}
    (artifact,) = work.artifacts("robustness")
    assert sorted(artifact.manifest["inputs"]["cell"]) == sorted(a.id for a in work.artifacts("cell"))
    assert [a.manifest["inputs"] for a in work.artifacts("cell")] == [
        {"preprocess": "0123456789ab", "fuse": work.artifacts("fuse")[0].id}
    ] * 3
    assert "robustness: up to date" in sweep(work).stderr
    wider = sweep(work, "--corruption", "noise,gap,blur", noise="0.3,0.6,0.9")
    assert "robustness: 7 cells, 4 of them to make" in wider.stderr  # blur is nothing to a model of the series
    table = curve(work.artifacts("robustness")[1])
    narrow = table.filter(pl.col("corruption") == "noise", pl.col("level") < 0.7)
    assert narrow.equals(curve(artifact))
    assert table.filter(corruption="blur", metric="auroc", subset="all")["value"].n_unique() == 1


def test_shares_make_all_cells_between_them_and_the_merge_makes_none(work):
    for i in (1, 2, 3):
        result = sweep(work, "--shard", f"{i}/3", noise="0.2:0.8:0.2")
        assert f"robustness: share {i} of 3 done; after all shares run the same without --shard" in result.stderr
        assert not work.artifacts("robustness") and result.stdout == ""
    assert len(work.artifacts("cell")) == 5
    merged = sweep(work, noise="0.2:0.8:0.2")
    assert "robustness: 5 cells, 0 of them to make" in merged.stderr
    assert "up to date" in sweep(work, "--shard", "1/3", noise="0.2:0.8:0.2").stderr
    whole = Work(work.root.parent / "whole")
    for name in ("preprocess", "fuse"):
        (whole.root / name).parent.mkdir(parents=True, exist_ok=True)
        (whole.root / name).symlink_to(work.root / name)
    sweep(whole, noise="0.2:0.8:0.2")
    one, other = (w.artifacts("robustness")[0] for w in (work, whole))
    assert one.id == other.id and one.manifest["files"] == other.manifest["files"]


def test_a_stopped_sweep_goes_on(work, monkeypatch):
    run, done = pipeline.execute, []

    def dies(work, plan, **arguments):
        if plan.stage.name == "cell" and len(done) == 2:
            raise KeyboardInterrupt
        done.append(plan.id)
        return run(work, plan, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "execute", dies)
        result = call("robustness", "--work-dir", work.root, "--noise", "0.2:0.6", *SHORT)
    assert result.exit_code == 130 and len(work.artifacts("cell")) == 2
    assert "robustness: 6 cells, 4 of them to make" in sweep(work, noise="0.2:0.6").stderr


def test_a_cell_that_another_job_makes_is_left_to_it(work):
    sweep(work, noise="0.3")
    (_, cell) = work.artifacts("cell")
    taken = work.path("cell", cell.id)
    taken.rename(work.root / "aside")
    with work.lock("cell", cell.id):
        share = sweep(work, "--shard", "1/1", "--force", noise="0.3")
        assert "share 1 of 1 done (1 left to other jobs)" in share.stderr
        blocked = call("robustness", "--work-dir", work.root, "--noise", "0.3", "--force", *SHORT)
    assert blocked.exit_code == 5 and "is being written by another run" in blocked.stderr
    sweep(work, "--force", noise="0.3")
    assert taken.is_dir()


def test_big_inputs_are_verified_and_opened_once_a_process(work, monkeypatch):
    verified, opened = [], []
    verify, open_ = Artifact.verify, StayData.open.__func__

    def counted(self, *, largest=None):
        if largest is None:  # every byte is read
            verified.append(self.stage)
        return verify(self, largest=largest)

    monkeypatch.setattr(Artifact, "verify", counted)
    monkeypatch.setattr(StayData, "open", classmethod(lambda cls, path: opened.append(path) or open_(cls, path)))
    sweep(work, noise="0.1:0.5")
    assert (verified.count("preprocess"), verified.count("fuse"), verified.count("cell")) == (1, 1, 6)
    assert len(opened) == 2  # for the cells, and for the merge


def test_a_damaged_input_is_found(work):
    path = work.artifacts("fuse")[0].file("weights.safetensors")
    content = bytearray(path.read_bytes())
    path.unlink()
    content[-1] ^= 1
    path.write_bytes(content)
    result = call("robustness", "--work-dir", work.root, *SHORT)
    assert result.exit_code == 3 and "weights.safetensors: differs from the manifest" in result.stderr
    assert not work.artifacts("cell")


def test_models_are_trained_anew_on_each_level_of_noise(work):
    before = work.artifacts("fuse")[0]
    result = sweep(work, "--train-on", "both", "--modality", "both,cxr")
    assert "models for noisy input start from scratch" in result.stderr
    noisy = [a for a in work.artifacts("fuse") if a.id != before.id]
    settings = ("train_noise", "noise_kind", "noise_modality")
    assert sorted(tuple(a.setting(n) for n in settings) for a in noisy) == [
        (0.3, "additive", "ehr"),
        (0.6, "additive", "ehr"),
    ]
    for artifact in noisy:
        kept = {n: e for n, e in artifact.manifest["settings"].items() if n not in settings}
        assert kept == dict(before.manifest["settings"]) and artifact.manifest["seed"] == 0
    table = curve(work.artifacts("robustness")[0])
    auroc = table.filter(metric="auroc", subset="all", modality="both").sort("level")
    clean, trained = (auroc.filter(trained=t)["value"].to_list() for t in ("clean", "noisy"))
    assert clean[0] == trained[0] and clean[1:] != trained[1:]
    # noise in films is nothing to this model, nor to its training
    assert table.filter(modality="cxr", metric="auroc", subset="all")["value"].n_unique() == 1
    assert "up to date" in sweep(work, "--train-on", "both", "--modality", "both,cxr").stderr
    # the noisy test input of such a model is that of its training run's own prediction
    facts = json.loads(next(a for a in noisy if a.setting("train_noise") == 0.6).file("metrics.json").read_text())
    assert trained[2] == pytest.approx(facts["test"]["auroc"])


def test_models_trained_on_noise_are_read_by_name_alone(work):
    fuse = ("fuse", "--work-dir", work.root, "--fusion", "ehr", *TRAIN)
    assert "fuse: up to date" in call(*fuse).stderr  # without noise a model is what it was before there was a choice
    assert call(*fuse, "--train-noise", 0.5).exit_code == 0
    stage = STAGES["evaluate"]
    found = resolve.resolve(work, STAGES["robustness"], stage.settings(), {}, [])["fuse"]
    assert [a.setting("train_noise") for a in found] == [None]
    assert not superseded(work)
    tables = call("fuse", "--work-dir", work.root, "--fusion", "logistic", "--train-noise", 0.5, *SHORT)
    assert tables.exit_code == 2 and "--train-noise 0.5: logistic takes none; rule: for networks" in tables.stderr


def test_a_dry_run_says_how_many_cells_and_makes_nothing(work):
    result = sweep(work, "--dry-run", "--train-on", "both")
    assert "robustness: 5 cells, 5 of them to make" in result.stderr
    assert "robustness: would run" in result.stderr
    assert not work.artifacts("cell") and len(work.artifacts("fuse")) == 1


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--noise", "0.5:2"), 2, "--noise must be"),
        (("--corruption", "fog"), 2, "--corruption takes names of"),
        (("--modality", "text"), 2, "--modality takes names of"),
        (("--corruption", "gap", "--train-on", "noisy"), 2, "--train-on noisy trains on noise"),
        (("--shard", "3/2"), 2, "--shard takes I/N"),
        (("--models", "medfuse"), 3, "robustness reads the model medfuse"),
    ],
)
def test_wrong_usage_makes_nothing(work, flags, code, message):
    result = call("robustness", "--work-dir", work.root, *SHORT, *flags)
    assert result.exit_code == code and message in result.stderr
    assert not work.artifacts("cell")


def test_trees_have_no_weights(work):
    assert call("fuse", "--work-dir", work.root, "--fusion", "logistic", *SHORT).exit_code == 0
    result = call("robustness", "--work-dir", work.root, "--models", "ehr,logistic", *SHORT)
    assert result.exit_code == 2
    assert re.search(r"\(logistic\) reads summaries and has no weights; rule: robustness takes networks", result.stderr)


def test_a_model_of_other_data(work):
    other = next(Path(work.root).glob("preprocess/*"))
    stranger = work.root / "preprocess" / "aaaaaaaaaaaa"
    stranger.mkdir()
    for path in other.iterdir():
        (stranger / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((stranger / "manifest.json").read_text().replace("0123456789ab", "aaaaaaaaaaaa"))
    (stranger / "manifest.json").write_text(to_json(manifest | {DIGEST: digest(manifest)}))
    pinned = ("--preprocess", "aaaaaaaaaaaa", "--fuse", work.artifacts("fuse")[0].id)
    result = call("robustness", "--work-dir", work.root, *SHORT, *pinned)
    assert result.exit_code == 3 and "was made from another preprocess than" in result.stderr


def test_cells_have_no_command_are_summed_up_and_cleaned_with_their_model(work):
    assert "cell" not in re.findall(r"^\W*(\S+)", call("--help").stdout, flags=re.MULTILINE)
    assert call("cell", "--help").exit_code == 2 and call("run", "--set", "cell.level=1").exit_code == 2
    sweep(work)
    (row,) = [r for r in status_rows(work) if r["stage"] == "cell"]
    assert (row["id"], row["what"], row["stale"], row["sensitivity"]) == ("3 of them", "mortality", None, "synthetic")
    assert "3 of them" in call("status", "--work-dir", work.root).stdout
    assert not superseded(work)
    sweep(work, noise="0.3,0.9")
    assert not superseded(work) or {a.stage for a in superseded(work)} == {"robustness"}
    model = work.artifacts("fuse")[0]
    model.path.rename(work.root / "aside")
    assert sum(a.stage == "cell" for a in superseded(work)) == 4
    assert next(r for r in status_rows(work) if r["stage"] == "cell")["stale"] == "4 of them"


def test_a_changed_sweep_does_not_recite_its_cells(work):
    sweep(work)
    again = sweep(work, noise="0.3")
    assert re.search(r"robustness: running .* differs from \S+ in noise: 0.3,0.6 -> 0.3$", again.stderr, re.MULTILINE)
