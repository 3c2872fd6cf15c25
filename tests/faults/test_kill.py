"""Killed at any moment, a stage leaves nothing half-written to be seen, and its rerun has the undisturbed bytes."""

import pytest

from faults.child import Fault, until
from faults.tiny import SHOWN
from fusionctl.stages import STAGES

TRAINING = [stage.name for stage in STAGES.values() if stage.trains]
PUBLISHED = ("rename", r"/[0-9a-f]{12}$")
# Where each stage is killed: at its first own file, and late; training between two epochs, and when it has done all.
OTHERS = (("write", r"\.partial/"), PUBLISHED)
MOMENTS = {
    "films": (("write", r"journal"), ("rename", r"films\.parquet$")),
    **dict.fromkeys(TRAINING, (("rename", r"\.partial/checkpoint\.safetensors$"), ("write", r"history\.jsonl$"))),
}


@pytest.mark.parametrize("stage", SHOWN)
def test_killed_twice_it_ends_as_if_it_had_not_been(copy, launch, stage):
    before = copy.without(stage).listed()
    for event, at in MOMENTS.get(stage, OTHERS):
        done = launch(*copy.command(stage), fault=Fault(do="kill", event=event, at=at)).wait()
        assert done.code == -9, done.text
        assert copy.listed() == before
        assert (copy.work.root / stage / f"{copy.made(stage).id}.lock").exists()
    done = launch(*copy.command(stage)).wait()
    assert done.code == 0, done.text
    assert stage not in TRAINING or "resumed from a checkpoint: epoch 3" in done.err
    copy.check_whole(stage)


@pytest.mark.parametrize("stage", ["evaluate", "films"])
def test_killed_while_it_replaces_an_artifact_the_old_one_is_there_again(copy, launch, stage):
    made, fault = copy.made(stage), Fault(do="kill", event="rename", at=PUBLISHED[1])
    assert launch(*copy.command(stage, "--force"), fault=fault).wait().code == -9
    assert copy.work.artifacts(stage) == []  # for a moment it is neither the old nor the new
    done = launch(*copy.command(stage)).wait()
    assert done.code == 0 and "up to date" in done.err
    assert copy.work.get(stage, made.id).verify().manifest == made.manifest


@pytest.mark.parametrize(("stage", "signal"), list(zip(TRAINING, ("TERM", "USR1", "USR1"), strict=True)))
def test_a_signal_saves_a_checkpoint_and_the_resumed_run_has_the_same_weights(copy, launch, stage, signal):
    before = copy.without(stage).listed()
    fault = Fault(do=signal, event="rename", at=r"\.partial/checkpoint\.safetensors$")
    done = launch(*copy.command(stage), fault=fault).wait()
    assert done.code == 75 and "a checkpoint is saved" in done.err and "the same command goes on" in done.err
    assert copy.listed() == before
    assert [p.suffix for p in (copy.work.root / stage).iterdir() if p.suffix] == [".partial"], "the lock is free"
    done = launch(*copy.command(stage)).wait()
    assert done.code == 0 and "resumed from a checkpoint: epoch 2, step 0" in done.err
    copy.check_whole(stage)


@pytest.mark.parametrize(("stage", "at"), [("extract", "attrition"), ("films", "journal"), ("fuse", "write-test")])
def test_a_signal_outside_of_training_ends_the_stage_in_order(copy, launch, stage, at):
    before = copy.without(stage).listed()
    done = launch(*copy.command(stage), fault=Fault(do="USR1", at=at)).wait()
    assert done.code == 75 and f"error: {stage}: stopped by a signal" in done.err, done.text
    assert copy.listed() == before
    left = {path.suffix for path in (copy.work.root / stage).iterdir()} - {""}
    assert left == ({".partial"} if stage == "films" else set())
    assert launch(*copy.command(stage)).wait().code == 0
    copy.check_whole(stage)


def test_of_two_runs_at_once_one_works_and_the_other_says_who_does(copy, launch):
    fault = Fault(do="stop", event="write", at=r"\.partial/")
    copy.without("evaluate")
    for _ in range(10):
        words = copy.command("evaluate", "--force")
        runs = [launch(*words, fault=fault) for _ in range(2)]
        second = until(lambda runs=runs: next((run for run in runs if not run.process.is_alive()), None))
        (first,) = (run for run in runs if run is not second)
        done = second.wait()
        assert done.code == 5, done.text
        assert f"is being written by another run (process {first.pid} on host " in done.err
        assert "wait for it, or, if that process is gone, remove " in done.err
        first.go_on()
        assert first.wait().code == 0
        copy.check_whole("evaluate")


def test_what_a_run_is_writing_is_not_cleaned_away(copy, launch):
    run = launch(*copy.without("evaluate").command("evaluate"), fault=Fault(do="stop", at=r"\.partial/"))
    draft = copy.work.root / "evaluate" / f"{copy.made('evaluate').id}.partial"
    until(lambda: draft.exists() and run.is_stopped())
    done = launch("clean", "--yes", "--work-dir", copy.work.root).wait()
    assert done.code == 0 and str(draft) not in done.out and draft.exists()
    run.process.kill()
    assert run.wait().code == -9
    done = launch("clean", "--yes", "--work-dir", copy.work.root).wait()
    assert done.code == 0 and str(draft) in done.out and not draft.exists()


def test_killed_when_all_is_done_but_the_lock_it_leaves_none_for_long(copy, launch):
    fault = Fault(do="kill", event="os.remove", at=r"/[0-9a-f]{12}\.lock$")
    assert launch(*copy.without("evaluate").command("evaluate"), fault=fault).wait().code == -9
    assert copy.listed()["evaluate"] == {copy.made("evaluate").id}
    done = launch(*copy.command("evaluate")).wait()
    assert done.code == 0 and "up to date" in done.err
    copy.check_whole("evaluate")
