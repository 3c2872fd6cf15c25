"""One stage: up to date, rerun with a reason, failed without a trace; upstream chosen without guessing."""

import logging
import sys
import types

import pytest

from fusionctl import pipeline, resolve
from fusionctl.errors import FusionctlError, InputError, Interrupted, UsageError
from fusionctl.settings import EvaluateSettings, ExtractSettings, FuseSettings, Runtime
from fusionctl.stages import STAGES, Stage
from fusionctl.workdir import Work


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "work")


def make(run, monkeypatch, **options):
    """A stage whose module is the function `run`."""
    module = types.ModuleType("fusionctl_test_stage")
    module.run = run
    monkeypatch.setitem(sys.modules, "fusionctl_test_stage", module)
    defaults = {"settings": ExtractSettings, "schema_version": 1}
    return Stage(name="extract", help="", module="fusionctl_test_stage", **{**defaults, **options})


def plan(stage, settings=None, inputs=None, roots=None, seed=0):
    sourced = {n: {"value": v, "source": "flag"} for n, v in (settings or {"protocol": "paper"}).items()}
    return pipeline.plan(stage, sourced, inputs or {}, roots or {}, Runtime(seed=seed))


def write_once(calls):
    def run(draft, settings, inputs, *, runtime):
        calls.append(settings)
        draft.file("a.txt").write_text("content")

    return run


def test_the_second_run_is_up_to_date_and_force_runs_again(work, monkeypatch, caplog):
    calls = []
    stage = make(write_once(calls), monkeypatch)
    with caplog.at_level(logging.INFO, "fusionctl"):
        first = pipeline.execute(work, plan(stage))
        second = pipeline.execute(work, plan(stage))
        assert (first.id, len(calls)) == (second.id, 1)
        pipeline.execute(work, plan(stage), force=True)
    assert len(calls) == 2
    text = caplog.text
    assert "no artifact yet" in text and "up to date" in text and "--force" in text


def test_a_rerun_says_why(work, monkeypatch, caplog, tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    (root / "a.csv").write_text("1")
    stage = make(write_once([]), monkeypatch, roots=("mimic_root",))
    pipeline.execute(work, plan(stage, roots={"mimic_root": root}))
    (root / "a.csv").write_text("22")
    changed = plan(
        make(write_once([]), monkeypatch, roots=("mimic_root",), schema_version=2), roots={"mimic_root": root}
    )
    reason = pipeline.why(work, changed)
    assert "mimic_root" in reason and "schema version: 1 -> 2" in reason
    assert pipeline.staleness(work, work.artifacts("extract")[0], stage).endswith("changed")


def test_a_dry_run_writes_nothing(work, monkeypatch):
    calls = []
    pipeline.execute(work, plan(make(write_once(calls), monkeypatch)), dry_run=True)
    assert not calls
    assert not work.root.exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "x.npy"), "the disk is full"),
        (PermissionError(13, "Permission denied", "x.npy"), "x.npy: Permission denied"),
        (InputError("column missing"), "column missing"),
    ],
)
def test_a_failure_is_one_clear_error_and_leaves_nothing(work, monkeypatch, error, message):
    def run(draft, settings, inputs, *, runtime):
        draft.file("half.bin").write_bytes(b"x")
        raise error

    with pytest.raises(FusionctlError, match=message):
        pipeline.execute(work, plan(make(run, monkeypatch)))
    assert work.artifacts("extract") == []
    assert work.leftovers() == []


def test_input_that_changes_during_the_run_is_detected(work, monkeypatch, tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    (root / "a.csv").write_text("1")

    def run(draft, settings, inputs, *, runtime):
        (root / "a.csv").write_text("22")

    with pytest.raises(InputError, match=r"a\.csv changed while extract ran"):
        pipeline.execute(work, plan(make(run, monkeypatch, roots=("mimic_root",)), roots={"mimic_root": root}))
    assert work.artifacts("extract") == []


def test_a_training_stage_that_a_signal_stopped_goes_on_where_it_was(work, monkeypatch):
    def run(draft, settings, inputs, *, runtime):
        if not draft.file("checkpoint").exists():
            draft.file("checkpoint").write_text("step 3")
            raise Interrupted("stopped")
        draft.file("weights").write_text("after " + draft.file("checkpoint").read_text())

    stage = make(run, monkeypatch, trains=True)
    with pytest.raises(Interrupted):
        pipeline.execute(work, plan(stage))
    assert work.artifacts("extract") == []
    assert pipeline.execute(work, plan(stage)).file("weights").read_text() == "after step 3"


def test_a_read_only_work_directory_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(FusionctlError, match="--work-dir"):
        pipeline.execute(Work(tmp_path / "file"), plan(make(write_once([]), monkeypatch)))


def test_an_artifact_is_as_sensitive_as_its_most_sensitive_input(work, monkeypatch):
    def run(draft, settings, inputs, *, runtime):
        draft.facts["sensitivity"] = "open"

    first = pipeline.execute(work, plan(make(run, monkeypatch)))
    stage = make(write_once([]), monkeypatch, upstream=("extract",))
    assert pipeline.execute(work, plan(stage, inputs={"extract": first})).manifest["sensitivity"] == "open"
    alone = pipeline.execute(work, plan(make(write_once([]), monkeypatch, schema_version=3)))
    assert alone.manifest["sensitivity"] == "credentialed"


def add(work, stage, id, inputs=None, **settings):
    draft = work.draft(stage, id, resume=False)
    sourced = {n: {"value": v, "source": "flag"} for n, v in settings.items()}
    base = {"stage": stage, "id": id, "created": f"2026-01-01T00:00:0{len(work.artifacts(stage))}", "settings": sourced}
    facts = {"inputs": inputs or {}, "raw": {}, "seed": 0, "schema_version": 1, "sensitivity": "synthetic"}
    return work.publish(draft, {**base, **facts})


def ids(inputs):
    return {n: [x.id for x in a] if isinstance(a, list) else a and a.id for n, a in inputs.items()}


def test_nothing_upstream_names_the_command_to_run_first(work):
    with pytest.raises(InputError) as caught:
        resolve.resolve(work, STAGES["fuse"], FuseSettings(), {}, [])
    assert "fusionctl preprocess --mimic-root DIR --cxr-root DIR --task mortality" in caught.value.hint


def test_two_candidates_upstream_are_listed_with_their_differences(work):
    add(work, "preprocess", "a" * 12, task="mortality", timestep=2.0, clahe=False)
    add(work, "preprocess", "b" * 12, task="mortality", timestep=1.0, clahe=False)
    stage = STAGES["pretrain-ehr"]
    with pytest.raises(InputError) as caught:
        resolve.resolve(work, stage, stage.settings(), {}, [])
    message = caught.value.message
    assert "does not guess" in message and "timestep 2.0" in message and "timestep 1.0" in message
    assert "clahe" not in message
    assert ids(resolve.resolve(work, stage, stage.settings(), {"preprocess": ["b"]}, []))["preprocess"] == "b" * 12


def test_choosing_an_encoder_chooses_the_data_it_was_trained_on(work):
    for letter in "ab":
        add(work, "preprocess", letter * 12, task="mortality", timestep=ord(letter))
        add(work, "pretrain-ehr", letter * 12, {"preprocess": letter * 12}, task="mortality")
    settings = FuseSettings(fusion="ehr")
    found = ids(resolve.resolve(work, STAGES["fuse"], settings, {"pretrain-ehr": ["b"]}, []))
    assert found == {"preprocess": "b" * 12, "pretrain-ehr": "b" * 12, "pretrain-cxr": None}
    with pytest.raises(InputError, match="was made from another preprocess"):
        resolve.resolve(work, STAGES["fuse"], settings, {"preprocess": ["a"], "pretrain-ehr": ["b"]}, [])


def test_evaluate_reads_one_artifact_a_model(work):
    add(work, "preprocess", "a" * 12, task="mortality")
    add(work, "fuse", "1" * 12, {"preprocess": "a" * 12}, task="mortality", fusion="attention")
    add(work, "fuse", "2" * 12, {"preprocess": "a" * 12}, task="mortality", fusion="trees")
    stage, settings = STAGES["evaluate"], EvaluateSettings()
    assert ids(resolve.resolve(work, stage, settings, {}, []))["fuse"] == ["1" * 12, "2" * 12]
    assert ids(resolve.resolve(work, stage, settings, {}, ["trees"]))["fuse"] == ["2" * 12]
    with pytest.raises(InputError, match="the model cxr, which is not there"):
        resolve.resolve(work, stage, settings, {}, ["cxr"])
    add(work, "fuse", "3" * 12, {"preprocess": "a" * 12}, task="mortality", fusion="trees", lr=1.0)
    with pytest.raises(InputError, match="2 artifacts of fuse"):
        resolve.resolve(work, stage, settings, {}, [])


def test_robustness_leaves_out_the_trees_unless_asked(work):
    add(work, "preprocess", "a" * 12, task="mortality")
    add(work, "fuse", "1" * 12, {"preprocess": "a" * 12}, task="mortality", fusion="attention")
    add(work, "fuse", "2" * 12, {"preprocess": "a" * 12}, task="mortality", fusion="trees")
    stage = STAGES["robustness"]
    assert ids(resolve.resolve(work, stage, stage.settings(), {}, []))["fuse"] == ["1" * 12]


def test_an_unavailable_device_is_refused(work, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stage = make(write_once([]), monkeypatch, networks=True)
    sourced = {"protocol": {"value": "paper", "source": "flag"}}
    with pytest.raises(UsageError, match="--device cuda: not available"):
        pipeline.execute(work, pipeline.plan(stage, sourced, {}, {}, Runtime(device="cuda")))
