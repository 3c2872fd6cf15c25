"""One stage: up to date, rerun with a reason, failed without a trace; upstream chosen without guessing."""

import logging
import sys
import types
from dataclasses import replace

import pytest

from fusionctl import pipeline, resolve
from fusionctl.errors import FusionctlError, InputError, Interrupted, LockedError, UsageError
from fusionctl.inventory import removable, status_rows, superseded
from fusionctl.session import Session
from fusionctl.settings import EvaluateSettings, ExtractSettings, FuseSettings, PreprocessSettings, Runtime
from fusionctl.stages import STAGES, Stage
from fusionctl.workdir import Artifact, Work


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


@pytest.mark.parametrize(("options", "kept"), [({"resumes": True}, True), ({"trains": True}, True), ({}, False)])
def test_what_an_error_leaves(work, monkeypatch, options, kept):
    """What took hours stays when one film is bad: the rerun goes on from it."""
    calls = []

    def run(draft, settings, inputs, *, runtime):
        calls.append(sorted(p.name for p in draft.path.iterdir()))
        draft.file("half").write_text("x")
        if len(calls) == 1:
            raise InputError("a film is bad")

    stage = make(run, monkeypatch, **options)
    with pytest.raises(InputError, match="a film is bad"):
        pipeline.execute(work, plan(stage))
    assert work.artifacts("extract") == [] and bool(work.leftovers()) == kept
    for path in work.leftovers():
        (path / pipeline.SPENT).write_text("3600")
    artifact = pipeline.execute(work, plan(stage))
    assert calls == [[], ["half"] if kept else []]
    assert (artifact.manifest["duration_s"] >= 3600) == kept
    assert set(artifact.manifest["files"]) == {"half"} and work.leftovers() == []


@pytest.mark.parametrize("error", [Interrupted("stopped"), KeyboardInterrupt()])
@pytest.mark.parametrize(("options", "kept"), [({"resumes": True}, True), ({"trains": True}, True), ({}, False)])
def test_what_a_stop_leaves(work, monkeypatch, options, kept, error):
    def run(draft, settings, inputs, *, runtime):
        draft.file("half").write_text("x")
        raise error

    with pytest.raises(type(error)):
        pipeline.execute(work, plan(make(run, monkeypatch, **options)))
    assert bool(work.leftovers()) == kept
    assert all(0 < float((path / pipeline.SPENT).read_text()) < 60 for path in work.leftovers())


def test_force_does_not_go_on_from_a_draft(work, monkeypatch):
    def run(draft, settings, inputs, *, runtime):
        assert not list(draft.path.iterdir())
        draft.file("a").write_text("x")

    work.draft("extract", plan(stage := make(run, monkeypatch, resumes=True)).id, resume=False).file("old").write_text(
        ""
    )
    artifact = pipeline.execute(work, plan(stage), force=True)
    assert set(artifact.manifest["files"]) == {"a"}


# --- shares


def make_shared(monkeypatch, calls):
    """A stage of four parts, of which each share does its own into the same draft."""

    def put(draft, parts):
        for part in parts:
            if not draft.file(f"part-{part}").exists():
                calls.append(part)
                draft.file(f"part-{part}").write_text(str(part))

    def run(draft, settings, inputs, *, runtime):
        put(draft, range(4))

    def run_shard(draft, settings, inputs, shard, *, runtime):
        put(draft, range(shard[0] - 1, 4, shard[1]))

    stage = make(run, monkeypatch, resumes=True, shards=True)
    sys.modules["fusionctl_test_stage"].run_shard = run_shard
    return stage


def test_shares_publish_nothing_and_the_run_after_them_does_what_is_left(work, monkeypatch, caplog):
    calls = []
    stage = make_shared(monkeypatch, calls)
    with caplog.at_level(logging.INFO, "fusionctl"):
        pipeline.execute_shard(work, plan(stage), (1, 2))
        assert work.artifacts("extract") == [] and len(work.leftovers()) == 1
        pipeline.execute_shard(work, plan(stage), (1, 2))  # done already: nothing happens
    assert calls == [0, 2]
    assert "share 1 of 2 done; after all shares run: fusionctl extract" in caplog.text
    artifact = pipeline.execute(work, plan(stage))
    assert calls == [0, 2, 1, 3] and sorted(artifact.manifest["files"]) == [f"part-{i}" for i in range(4)]
    caplog.clear()
    with caplog.at_level(logging.INFO, "fusionctl"):
        pipeline.execute_shard(work, plan(stage), (2, 2))
    assert caplog.messages == [f"extract: up to date ({artifact.id})"] and len(calls) == 4


def test_an_error_before_anything_was_written_leaves_nothing(work, monkeypatch):
    def run(draft, settings, inputs, *, runtime):
        raise InputError("no films")

    with pytest.raises(InputError, match="no films"):
        pipeline.execute(work, plan(make(run, monkeypatch, resumes=True)))
    assert work.leftovers() == []


def test_the_stage_waits_for_its_shares(work, monkeypatch):
    stage = make_shared(monkeypatch, [])
    busy = pytest.raises(LockedError, match="shard-2-of-2 is being written by another run")
    with work.lock("extract", f"{plan(stage).id}.shard-2-of-2"), busy:
        pipeline.execute(work, plan(stage))
    assert pipeline.execute(work, plan(stage)).id == plan(stage).id


def test_shares_run_side_by_side_but_each_once(work, monkeypatch):
    stage = make_shared(monkeypatch, [])
    with work.lock("extract", f"{plan(stage).id}.shard-1-of-2"):
        pipeline.execute_shard(work, plan(stage), (2, 2))
        with pytest.raises(LockedError, match="shard-1-of-2 is being written by another run"):
            pipeline.execute_shard(work, plan(stage), (1, 2))
    assert sorted(p.name for p in work.leftovers()[0].iterdir()) == ["part-1", "part-3"]


def test_a_failed_share_keeps_what_is_there(work, monkeypatch):
    stage = make_shared(monkeypatch, [])
    pipeline.execute_shard(work, plan(stage), (1, 2))

    def fail(*args, **options):
        raise OSError(28, "No space left on device", "x.npy")

    sys.modules["fusionctl_test_stage"].run_shard = fail
    with pytest.raises(FusionctlError, match="extract: the disk is full"):
        pipeline.execute_shard(work, plan(stage), (2, 2))
    assert sorted(p.name for p in work.leftovers()[0].iterdir()) == ["part-0", "part-2"]


def test_a_dry_run_of_a_share_writes_nothing(work, monkeypatch, caplog):
    calls = []
    with caplog.at_level(logging.INFO, "fusionctl"):
        pipeline.execute_shard(work, plan(make_shared(monkeypatch, calls)), (1, 2), dry_run=True)
    assert not calls and not work.root.exists() and "would run share 1 of 2" in caplog.text


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


def test_evaluate_reads_one_artifact_a_model_and_the_extract_of_its_data(work):
    for letter in "ef":
        add(work, "extract", letter * 12)
    add(work, "preprocess", "a" * 12, {"extract": "e" * 12}, task="mortality")
    add(work, "fuse", "1" * 12, {"preprocess": "a" * 12}, task="mortality", fusion="attention")
    add(work, "fuse", "2" * 12, {"preprocess": "a" * 12}, task="mortality", fusion="trees")
    stage, settings = STAGES["evaluate"], EvaluateSettings()
    found = ids(resolve.resolve(work, stage, settings, {}, []))
    assert found == {"preprocess": "a" * 12, "extract": "e" * 12, "fuse": ["1" * 12, "2" * 12]}
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


# --- inputs of which one file counts


def extracted(work, id, films="films of 2019", events="", **settings):
    """An extract artifact with files."""
    draft = work.draft("extract", id, resume=False)
    draft.file("films.parquet").write_text(films)
    draft.file("events.parquet").write_text(events)
    sourced = {n: {"value": v, "source": "flag"} for n, v in settings.items()}
    facts = {"inputs": {}, "raw": {}, "seed": None, "schema_version": 2, "sensitivity": "synthetic"}
    created = f"2026-01-01T00:00:0{len(work.artifacts('extract'))}"
    return work.publish(draft, {"stage": "extract", "id": id, "created": created, "settings": sourced, **facts})


def films_plan(extract):
    sourced = {"film_size": {"value": 64, "source": "flag"}}
    return pipeline.plan(STAGES["films"], sourced, {"extract": extract}, {}, Runtime())


def test_the_content_of_one_file_is_the_identity_not_the_artifact(work):
    paper = extracted(work, "a" * 12, events="1", protocol="paper")
    legacy = extracted(work, "b" * 12, events="2", protocol="legacy")
    other = extracted(work, "c" * 12, films="films of 2020", protocol="paper")
    ids = [films_plan(e).id for e in (paper, legacy, other)]
    assert ids[0] == ids[1] != ids[2]
    assert films_plan(legacy).input_ids == {"extract": legacy.id}  # the manifest says which one it was
    usual = make(write_once([]), pytest.MonkeyPatch(), upstream=("extract",))
    assert plan(usual, inputs={"extract": paper}).id != plan(usual, inputs={"extract": legacy}).id


def test_a_dry_run_that_knows_no_content_yet_still_has_an_identity(work):
    unmade = Artifact("extract", "d" * 12, work.path("extract", "d" * 12), {})
    assert films_plan(unmade).id == films_plan(unmade).id != films_plan(extracted(work, "a" * 12)).id


def test_films_outlive_the_extract_that_they_were_made_from(work):
    extracted(work, "b" * 12, protocol="legacy")
    films = add(work, "films", "f" * 12, {"extract": "a" * 12})
    pre = add(work, "preprocess", "e" * 12, {"extract": "b" * 12, "films": "f" * 12}, task="mortality")
    of_then = {n: replace(s, schema_version=films.manifest["schema_version"]) for n, s in STAGES.items()}
    assert pipeline.staleness(work, films, of_then["films"]) is None
    gone = add(work, "preprocess", "d" * 12, {"extract": "a" * 12, "films": "f" * 12}, task="mortality")
    stale = pipeline.staleness(work, gone, of_then["preprocess"])
    assert stale is not None and (stale == "its extract is gone" or stale.startswith("schema version"))
    # A chain through films does not ask for the extract that happened to make them.
    settings = FuseSettings(fusion="trees")
    found = ids(resolve.resolve(work, STAGES["fuse"], settings, {"preprocess": [pre.id]}, []))
    assert found["preprocess"] == pre.id
    kinds = {"extract": "t", "films": "s", "preprocess": "s"}
    chosen = {}
    resolve._add_ancestors(work, pre, chosen, kinds)
    assert {n: a.id for n, a in chosen.items()} == {"extract": "b" * 12, "films": "f" * 12}
    assert {r["stage"] for r in status_rows(work)} == {"extract", "films", "preprocess"}
    assert "f" * 12 not in {a.id for a in superseded(work) if pre not in superseded(work)}


def test_films_take_the_extract_of_either_protocol(work):
    extracted(work, "a" * 12, protocol="paper")
    extracted(work, "b" * 12, protocol="legacy")
    stage = STAGES["films"]
    assert ids(resolve.resolve(work, stage, stage.settings(), {}, [])) == {"extract": "b" * 12}  # the newest
    extracted(work, "c" * 12, films="others", protocol="paper")
    with pytest.raises(InputError, match="films found 2 artifacts of extract and does not guess"):
        resolve.resolve(work, stage, stage.settings(), {}, [])


def test_preprocess_takes_the_extract_of_its_protocol(work, monkeypatch):
    paper = extracted(work, "a" * 12, protocol="paper")
    legacy = extracted(work, "b" * 12, protocol="legacy")
    session = Session(work=work, runtime=Runtime())
    monkeypatch.setattr(Session, "_films", lambda self, extract, force: None)
    for wanted, artifact in (("paper", paper), ("legacy", legacy)):
        found = session._preprocess_inputs(PreprocessSettings(protocol=wanted), {})
        assert found["extract"].id == artifact.id
    with pytest.raises(UsageError, match="--extract b+ was made with protocol legacy, not paper"):
        session._preprocess_inputs(PreprocessSettings(), {"extract": ["b"]})
    extracted(work, "c" * 12, protocol="legacy")
    with pytest.raises(InputError, match="preprocess found 2 artifacts of extract and does not guess"):
        session._preprocess_inputs(PreprocessSettings(protocol="legacy"), {})
    assert session._preprocess_inputs(PreprocessSettings(protocol="legacy"), {"extract": ["c"]})["extract"].id[0] == "c"


def test_a_missing_extract_of_a_protocol_is_named_with_it(work):
    extracted(work, "a" * 12, protocol="paper")
    session = Session(work=work, runtime=Runtime())
    with pytest.raises(InputError, match="preprocess reads the artifact of extract, and there is none") as caught:
        session._preprocess_inputs(PreprocessSettings(protocol="legacy"), {})
    assert "fusionctl extract --mimic-root DIR --cxr-root DIR --protocol legacy" in caught.value.hint


def test_the_film_encoder_of_any_task_will_do_for_radiology(work):
    add(work, "preprocess", "a" * 12, task="phenotyping")
    add(work, "pretrain-cxr", "1" * 12, {"preprocess": "a" * 12}, task="radiology")
    found = ids(resolve.resolve(work, STAGES["fuse"], FuseSettings(task="phenotyping", fusion="cxr"), {}, []))
    assert found["pretrain-cxr"] == "1" * 12
    add(work, "pretrain-cxr", "2" * 12, {"preprocess": "a" * 12}, task="mortality")
    found = ids(resolve.resolve(work, STAGES["fuse"], FuseSettings(task="phenotyping", fusion="cxr"), {}, []))
    assert found["pretrain-cxr"] == "1" * 12
    radiology = STAGES["pretrain-cxr"].settings(task="radiology")
    assert ids(resolve.resolve(work, STAGES["pretrain-cxr"], radiology, {}, []))["preprocess"] == "a" * 12


def test_a_root_that_is_a_file_is_part_of_the_identity(work, monkeypatch, tmp_path):
    listed = tmp_path / "split.csv"
    listed.write_text("subject_id,split\n1,train\n")
    stage = make(write_once([]), monkeypatch, roots=("split_file",))
    first = plan(stage, roots={"split_file": listed})
    listed.write_text("subject_id,split\n1,test\n")
    assert plan(stage, roots={"split_file": listed}).id != first.id != plan(stage).id


def test_an_unavailable_device_is_refused(work, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stage = make(write_once([]), monkeypatch, networks=True)
    sourced = {"protocol": {"value": "paper", "source": "flag"}}
    with pytest.raises(UsageError, match="--device cuda: not available"):
        pipeline.execute(work, pipeline.plan(stage, sourced, {}, {}, Runtime(device="cuda")))


@pytest.mark.parametrize(
    ("flags", "task", "film_task"),
    [
        ({}, "mortality", "radiology"),
        ({"preprocess": {"task": "phenotyping"}}, "phenotyping", "phenotyping"),
        ({"preprocess": {"task": "phenotyping"}, "pretrain-cxr": {"task": "radiology"}}, "phenotyping", "radiology"),
        ({"preprocess": {"protocol": "legacy"}}, "mortality", "radiology"),
    ],
)
def test_all_stages_in_order_with_what_the_task_asks_for(work, monkeypatch, tmp_path, flags, task, film_task):
    ran = []

    def execute(self, name, inputs, sourced, force=None):
        ran.append((name, {n: e["value"] for n, e in sourced.items()}, inputs))
        return Artifact(name, f"{name}-{len(ran)}", tmp_path, {"rows": {"films": 3}})

    monkeypatch.setattr(Session, "_execute", execute)
    monkeypatch.setattr(Session, "_sweep", lambda self, inputs: execute(self, "robustness", inputs, {}))
    roots = {"mimic_root": tmp_path, "cxr_root": tmp_path}
    Session(work=work, runtime=Runtime(), roots=roots, flags=flags).run_all([])
    names = [name for name, *_ in ran]
    assert names[:5] == ["extract", "films", "preprocess", "pretrain-ehr", "pretrain-cxr"]
    assert names[-3:] == ["evaluate", "robustness", "report"] and names.count("fuse") == 4
    by_name = {name: (settings, inputs) for name, settings, inputs in ran}
    assert by_name["preprocess"][0]["task"] == task and by_name["pretrain-cxr"][0]["task"] == film_task
    protocol = flags.get("preprocess", {}).get("protocol", "paper")
    assert by_name["extract"][0]["protocol"] == by_name["preprocess"][0]["protocol"] == protocol
    assert {n: a.id for n, a in by_name["preprocess"][1].items()} == {"extract": "extract-1", "films": "films-2"}


def test_only_folders_of_stages_are_removable(work):
    add(work, "extract", "a" * 12)
    drafts = [work.draft(stage, "c" * 12, resume=False).path for stage in ("downloads", "extract", "cell")]
    assert superseded(work)
    assert removable(work) == [a.path for a in superseded(work)] + [drafts[2], drafts[1]]
