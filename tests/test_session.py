"""What a session hands to a stage: settings borrowed of other stages, and the encoders that a model needs."""

import json

import pytest
from toy import publish, write_preprocessed
from typer.testing import CliRunner

from fusionctl.cli import app
from fusionctl.session import RUN_MODELS, Session
from fusionctl.settings import Runtime
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
