"""The command that a plan tells makes the same artifact again."""

import shlex

import pytest
from typer.testing import CliRunner

from fusionctl import pipeline
from fusionctl.cli import app
from fusionctl.config import collect
from fusionctl.settings import Runtime
from fusionctl.stages import STAGES
from fusionctl.workdir import Artifact, Work


def planned(stage, inputs=None, seed=0, preset="paper", extra=None, **flags):
    sourced = collect(stage, STAGES[stage].settings, flags=flags, config={}, preset=preset, environment={})
    return pipeline.plan(STAGES[stage], {**sourced, **(extra or {})}, inputs or {}, {}, Runtime(seed=seed))


def test_only_what_was_said_is_in_the_command(tmp_path):
    one, other = (Artifact("fuse", letter * 12, tmp_path, {}) for letter in "ab")
    pre = Artifact("preprocess", "c" * 12, tmp_path, {})
    plan = planned("evaluate", {"fuse": [one, other], "preprocess": pre}, seed=3, resamples=10)
    expected = "fusionctl evaluate --resamples 10 --fuse {} --fuse {} --preprocess {} --seed 3"
    assert plan.command == expected.format("a" * 12, "b" * 12, "c" * 12)
    assert planned("films", clahe=True).command == "fusionctl films --clahe"
    assert planned("preprocess", film_window="0:24").command == "fusionctl preprocess --film-window 0:24"


def test_values_of_a_preset_are_said_so_the_command_needs_none():
    assert "--hidden 64 " in planned("pretrain-ehr", preset="small").command + " "


def test_settings_of_other_stages_are_told_as_variables():
    extra = {"pretrain-ehr.hidden": {"value": 16, "source": "flag"}}
    command = planned("fuse", fusion="ehr", from_scratch=True, extra=extra).command
    assert command.startswith("FUSIONCTL_PRETRAIN_EHR_HIDDEN=16 fusionctl fuse --fusion ehr")


@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_the_command_has_the_same_identity(tmp_path, preset):
    """As the program itself reads it."""
    work, draft = Work(tmp_path / "w"), Work(tmp_path / "w").draft("preprocess", "c" * 12, resume=False)
    base = {"stage": "preprocess", "id": "c" * 12, "created": "x", "settings": {"task": {"value": "mortality"}}}
    pre = work.publish(draft, {**base, "inputs": {}, "raw": {}, "schema_version": 2, "seed": None})
    plan = planned("pretrain-ehr", {"preprocess": pre}, seed=2, preset=preset, lr=0.1 + 0.2)
    words = [*shlex.split(plan.command)[1:], "--work-dir", str(work.root), "--dry-run"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and f"would run ({plan.id})" in result.stderr, result.output
