"""Precedence of settings, and clear errors for wrong ones."""

import pytest

from fusionctl import presets
from fusionctl.config import collect, collect_common, parse_assignments, read_config
from fusionctl.errors import UsageError
from fusionctl.presets import PRESETS, preset_values
from fusionctl.settings import FilmsSettings, FuseSettings, PreprocessSettings, RobustnessSettings
from fusionctl.stages import STAGES

SETTINGS = {name: stage.settings for name, stage in STAGES.items()}


def value(name, *, flags=None, environment=None, config=None, preset="paper"):
    table = {"fuse": config or {}}
    entry = collect(
        "fuse", FuseSettings, flags=flags or {}, config=table, preset=preset, environment=environment or {}
    )[name]
    return entry["value"], entry["source"]


def test_each_source_gives_way_to_the_next(monkeypatch):
    monkeypatch.setitem(PRESETS, "small", {"fuse": {"lr": 0.2}})
    environment, config, flags = {"FUSIONCTL_FUSE_LR": "0.4"}, {"lr": 0.3}, {"lr": 0.5}
    assert value("lr") == (1e-4, "default")
    assert value("lr", preset="small") == (0.2, "preset small")
    assert value("lr", preset="small", config=config) == (0.3, "config")
    assert value("lr", preset="small", config=config, environment=environment) == (0.4, "environment")
    assert value("lr", preset="small", config=config, environment=environment, flags=flags) == (0.5, "flag")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_know_the_tasks_own_rates(preset):
    """Section V-A of the paper: learning rates of film pretraining, series pretraining and fine-tuning."""

    def rates(task):
        found = {}
        for name in ("pretrain-cxr", "pretrain-ehr", "fuse"):
            flags = {} if name == "pretrain-cxr" else {"task": task}
            found[name] = collect(name, SETTINGS[name], flags=flags, config={}, preset=preset, environment={})["lr"]
        return found

    mortality, phenotyping = rates("mortality"), rates("phenotyping")
    assert mortality["fuse"] == {"value": 1e-4, "source": "default"}
    # With few epochs the paper's rate is too low for 25 labels.
    rate = 7e-5 if preset == "paper" else 3e-4
    assert phenotyping["fuse"] == {"value": rate, "source": f"preset {preset}"}
    if preset == "paper":
        assert [entry["value"] for entry in mortality.values()] == [5e-4, 3e-5, 1e-4]
        assert [entry["value"] for entry in phenotyping.values()] == [5e-4, 1e-4, 7e-5]
    flags = {"task": "phenotyping", "lr": 0.5}
    given = collect("fuse", FuseSettings, flags=flags, config={}, preset=preset, environment={})["lr"]
    assert given == {"value": 0.5, "source": "flag"}


def test_the_task_may_come_from_the_file_or_the_environment():
    assert value("lr", config={"task": "phenotyping"})[0] == 7e-5
    assert value("lr", environment={"FUSIONCTL_FUSE_TASK": "phenotyping"})[0] == 7e-5


def test_every_preset_names_known_stages_and_allowed_values():
    for preset, tables in PRESETS.items():
        assert set(tables) <= set(STAGES)
        for name, stage in STAGES.items():
            sourced = collect(name, stage.settings, flags={}, config={}, preset=preset, environment={})
            assert set(tables.get(name, {})) <= set(sourced)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fuze]\nlr = 1.0", r"table \[fuze\] is not known"),
        ("[fuse]\nlrr = 1.0", r"\[fuse\] lrr is not known"),
        ("lr = 1.0", "lr"),
        ("[fuse", "c.toml"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_config(path, SETTINGS)
    if "lrr" in text:
        assert "did you mean lr?" in caught.value.hint


@pytest.mark.parametrize(
    ("cls", "flags", "message"),
    [
        (FuseSettings, {"lr": float("nan")}, "--lr must be a number from 0 up; got nan"),
        (FuseSettings, {"epochs": 0}, "--epochs must be a number from 1 up; got 0"),
        (FuseSettings, {"fusion": "guess"}, "--fusion must be one of attention"),
        (PreprocessSettings, {"impute": "next"}, "--impute must be one of previous, normal, zero; got 'next'"),
        (PreprocessSettings, {"available_at": "drawn"}, "--available-at must be one of charttime, storetime"),
        (PreprocessSettings, {"folds": -1}, "--folds must be a number from 0 to 100"),
        (PreprocessSettings, {"window_hours": -1.0}, "--window-hours must be a number from 0"),
        (FilmsSettings, {"film_size": 16}, "--film-size must be a number from 32 to 2048; got 16"),
        (FilmsSettings, {"max_bad_films": 1.5}, "--max-bad-films must be a number from 0 to 1"),
        (PreprocessSettings, {"timestep": 1e9}, "--timestep must be a number from 0.05 to 48; got"),
        (RobustnessSettings, {"threshold": 1.5}, "--threshold must be a number from 0 to 1; got 1.5"),
    ],
)
def test_values_out_of_their_rule_are_refused(cls, flags, message):
    with pytest.raises(UsageError, match=message):
        collect("x", cls, flags=flags, config={}, preset="paper", environment={})


def test_a_value_of_another_type_is_refused():
    with pytest.raises(UsageError, match=r"FUSIONCTL_FUSE_EPOCHS must be of type int; got 'many'"):
        value("epochs", environment={"FUSIONCTL_FUSE_EPOCHS": "many"})
    with pytest.raises(UsageError, match=r"\[fuse\] epochs must be of type int; got 1.5"):
        value("epochs", config={"epochs": 1.5})
    assert value("lr", config={"lr": 1}) == (1.0, "config")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lr": 10**400}, r"\[fuse\] lr must be at most 1e308; got 1000"),
        ({"epochs": 10**400}, "--epochs must be at most 9223372036854775807; got 1000"),
        ({"batch_size": 2**63}, "--batch-size must be at most 9223372036854775807; got 9223372036854775808"),
        ({"epochs": -(10**400)}, "--epochs must be a number from 1 up; got -1000"),
    ],
)
def test_a_number_that_no_machine_holds_is_refused(config, message):
    with pytest.raises(UsageError, match=message):
        value("lr", config=config)


def test_an_empty_path_in_the_file_is_not_the_current_folder():
    for name in ("work_dir", "mimic_root", "cxr_root", "split_file", "init", "stage_to"):
        with pytest.raises(UsageError, match=rf"\[common\] {name} is empty"):
            collect_common({}, {"common": {name: ""}}, {name: None, "preset": "paper"})


def test_assignments():
    parsed = parse_assignments(["films.clahe=true", "fuse.batch-size=8", "preprocess.film_window=-6:"], SETTINGS)
    assert parsed == {"films": {"clahe": True}, "fuse": {"batch_size": 8}, "preprocess": {"film_window": "-6:"}}
    with pytest.raises(UsageError, match="--set takes") as caught:
        parse_assignments(["clahe"], SETTINGS)
    example = caught.value.hint.removeprefix("for example --set ")
    assert parse_assignments([example], SETTINGS)  # the example is one
    for bad in ("clahe=true", "fuse.lr", "fuse.lrr=1", "fuse.epochs=x"):
        with pytest.raises(UsageError, match="--set"):
            parse_assignments([bad], SETTINGS)


def test_common_options_come_from_the_file_unless_given():
    defaults = {"seed": 0, "work_dir": "work", "preset": "paper"}
    config = {"common": {"seed": 3, "work_dir": "w"}}
    found = collect_common({"seed": None, "work_dir": None}, config, defaults)
    assert (found["seed"], str(found["work_dir"])) == (3, "w")
    assert collect_common({"seed": 5}, config, defaults)["seed"] == 5
    with pytest.raises(UsageError, match="--preset must be one of"):
        collect_common({"preset": "papr"}, {}, defaults)


def test_files_among_the_common_options_are_paths():
    from pathlib import Path

    defaults = {"split_file": None, "init": None, "preset": "paper"}
    config = {"common": {"split_file": "lists", "init": "weights.safetensors"}}
    found = collect_common({"init": None}, config, defaults)
    assert (found["split_file"], found["init"]) == (Path("lists"), Path("weights.safetensors"))
    assert collect_common({"init": Path("other")}, config, defaults)["init"] == Path("other")
    assert collect_common({}, {}, defaults)["split_file"] is None
    with pytest.raises(UsageError, match=r"\[common\] init must be of type str; got 5"):
        collect_common({}, {"common": {"init": 5}}, defaults)


def test_a_preset_may_say_otherwise_for_one_task(monkeypatch):
    """Default < the paper's for the task < preset < preset for the task."""
    monkeypatch.setitem(PRESETS, "small", {"fuse": {"epochs": 3}, "pretrain-ehr": {"lr": 0.2, "hidden": 8}})
    monkeypatch.setitem(presets._OF_TASK, ("small", "phenotyping"), {"pretrain-ehr": {"lr": 0.3}})
    assert preset_values("small", "pretrain-ehr", "mortality") == {"lr": 0.2, "hidden": 8}
    assert preset_values("small", "pretrain-ehr", "phenotyping") == {"lr": 0.3, "hidden": 8}
    assert preset_values("small", "fuse", "phenotyping") == {"lr": 7e-5, "epochs": 3}  # paper, section V-A
    assert preset_values("paper", "pretrain-ehr", "phenotyping") == {"lr": 1e-4}
    assert preset_values("paper", "pretrain-ehr", "mortality") == {}
