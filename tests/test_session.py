"""What a session hands to a stage: settings borrowed of other stages, and the encoders that a model needs."""

import json
from dataclasses import replace

import pytest
from toy import publish, write_preprocessed
from typer.testing import CliRunner

from fusionctl import resolve
from fusionctl.cli import app
from fusionctl.errors import InputError, UsageError
from fusionctl.inventory import superseded
from fusionctl.model_name import model_name, model_names
from fusionctl.session import RUN_MODELS, Session
from fusionctl.settings import Runtime
from fusionctl.stages import STAGES
from fusionctl.workdir import Work

SHORT = ("--epochs", 1, "--batch-size", 40, "--jobs", 1, "--device", "cpu")


def call(*arguments, **environment):
    return CliRunner().invoke(app, [str(a) for a in arguments], env=environment)


@pytest.fixture
def work(tmp_path):
    work = Work(tmp_path / "work")
    publish(work, write_preprocessed(tmp_path / "files"))
    return work


def test_a_model_from_scratch_needs_no_pretraining_and_tells_how_its_encoders_were_built(work):
    command = ("fuse", "--work-dir", work.root, "--fusion", "ehr", *SHORT)
    refused = call(*command)
    assert refused.exit_code == 3 and "run first: fusionctl pretrain-ehr --task mortality" in refused.stderr
    made = call(*command, "--from-scratch", "--preset", "small", FUSIONCTL_PRETRAIN_EHR_HIDDEN="16")
    assert made.exit_code == 0, made.stderr
    (artifact,) = work.artifacts("fuse")
    settings = artifact.manifest["settings"]
    assert settings["pretrain-ehr.hidden"] == {"value": 16, "source": "environment"}
    assert settings["pretrain-ehr.dropout"] == {"value": 0.5, "source": "preset small"}
    assert settings["pretrain-ehr.pool"] == {"value": "last", "source": "default"}
    assert not any(name.startswith(("pretrain-cxr.", "pretrain-ehr.lr", "pretrain-ehr.task")) for name in settings)
    assert artifact.manifest["inputs"] == {"preprocess": "0123456789ab"}
    again = call(*command, "--from-scratch", "--preset", "small", FUSIONCTL_PRETRAIN_EHR_HIDDEN="16")
    assert "fuse: up to date" in again.stderr
    other = call(*command, "--from-scratch", "--preset", "small", "--dry-run")
    assert "pretrain-ehr.hidden: 16 -> 64" in other.stderr


def test_the_models_of_tables_need_no_network(work):
    for name in ("trees", "logistic"):
        result = call("fuse", "--work-dir", work.root, "--fusion", name, *SHORT)
        assert result.exit_code == 0, result.stderr
    facts = [json.loads(a.file("metrics.json").read_text()) for a in work.artifacts("fuse")]
    assert all(0 <= f["test"]["auroc"] <= 1 for f in facts)


def test_run_trains_the_papers_model_and_what_it_must_beat_unless_told(tmp_path):
    with_films = Session(work=Work(tmp_path), runtime=Runtime(), roots={"cxr_root": tmp_path})
    assert with_films._models([]) == list(RUN_MODELS) == ["attention", "ehr", "cxr", "trees"]
    assert with_films._models(["medfuse", "logistic-film"]) == ["medfuse", "logistic-film"]
    assert Session(work=Work(tmp_path), runtime=Runtime())._models([]) == ["ehr", "trees"]


def test_seeds_train_a_group_that_evaluate_takes_whole(work):
    fuse = ("fuse", "--work-dir", work.root, "--fusion", "ehr", *SHORT)
    assert call("pretrain-ehr", "--work-dir", work.root, "--seeds", 2, "--seed", 3, *SHORT).exit_code == 0
    assert sorted(a.manifest["seed"] for a in work.artifacts("pretrain-ehr")) == [3, 4]
    # of encoders that differ in the seed alone a model takes that of its own seed; of seed 0 there is none
    unclear = call(*fuse)
    assert unclear.exit_code == 3 and "does not guess between them" in unclear.stderr
    assert call(*fuse, "--seeds", 2, "--seed", 3).exit_code == 0
    encoders = {a.id: a.manifest["seed"] for a in work.artifacts("pretrain-ehr")}
    models = work.artifacts("fuse")
    assert [encoders[a.manifest["inputs"]["pretrain-ehr"]] for a in models] == [a.manifest["seed"] for a in models]
    stage = replace(STAGES["evaluate"], upstream=("preprocess", "fuse*"))  # the toy data come from no extract
    group = resolve.resolve(work, stage, stage.settings(), {}, [])["fuse"]
    assert [a.manifest["seed"] for a in group] == [3, 4] and model_names(group) == ["ehr", "ehr"]
    assert {model_name(a) for a in group} == {"ehr"}
    assert not superseded(work)
    assert call(*fuse, "--seed", 4, "--lr", 0.5).exit_code == 0
    with pytest.raises(InputError, match="found 3 artifacts of fuse and does not guess"):
        resolve.resolve(work, stage, stage.settings(), {}, ["ehr"])
    assert call(*fuse, "--seeds", 0).exit_code == 2


def test_a_models_loss_is_part_of_its_name(work):
    fuse = ("fuse", "--work-dir", work.root, "--fusion", "ehr", "--from-scratch", *SHORT)
    for loss in ("bce", "uncertainty"):
        assert call(*fuse, "--loss", loss).exit_code == 0
    stage = replace(STAGES["evaluate"], upstream=("preprocess", "fuse*"))
    both = resolve.resolve(work, stage, stage.settings(), {}, [])["fuse"]
    assert sorted(model_names(both)) == ["ehr", "ehr+uncertainty"]
    one = resolve.resolve(work, stage, stage.settings(), {}, ["ehr+uncertainty"])["fuse"]
    assert [a.setting("loss") for a in one] == ["uncertainty"]
    with pytest.raises(InputError, match=r"model ehr\+focal, which is not there") as caught:
        resolve.resolve(work, stage, stage.settings(), {}, ["ehr+focal"])
    assert "fusionctl fuse --task mortality --fusion ehr --loss focal" in str(caught.value)


def test_run_takes_models_with_their_loss(tmp_path):
    session = Session(work=Work(tmp_path), runtime=Runtime(), roots={"cxr_root": tmp_path})
    assert session._models(["attention", "attention+uncertainty"]) == ["attention", "attention+uncertainty"]
    with pytest.raises(UsageError, match="'guess' is not a loss"):
        session._models(["attention+guess"])
    with pytest.raises(UsageError, match="trains no network"):
        session._models(["trees+focal"])
