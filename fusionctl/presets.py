"""Named sets of defaults, by stage: `--preset paper`, `small` or `demo`."""

from __future__ import annotations

from typing import Any

# `paper` is the defaults of the settings. `small` makes film training bearable on
# two CPU cores; `demo` is `small` with less of it. Every value can still be overridden.
_SMALL: dict[str, dict[str, Any]] = {
    # Chosen by cross-validation over the training and validation patients of an open set of 3,600 stays.
    "pretrain-ehr": {
        **{"epochs": 30, "patience": 12, "batch_size": 64, "lr": 3e-4, "grad_clip": 1.0},
        **{"hidden": 64, "dropout": 0.5, "input_dropout": 0.5, "running": True, "summary": True},
    },
    "pretrain-cxr": {"epochs": 5, "batch_size": 32, "arch": "resnet18", "input_size": 96, "augment": 0.3},
    "fuse": {"epochs": 8, "patience": 4},
}
_DEMO: dict[str, dict[str, Any]] = {
    "pretrain-ehr": {**_SMALL["pretrain-ehr"], "epochs": 15},
    "pretrain-cxr": {**_SMALL["pretrain-cxr"], "epochs": 3, "input_size": 64},
    "fuse": {"epochs": 6, "patience": 4},
    "robustness": {"noise": "0.2:0.6:0.2"},
}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"paper": {}, "small": _SMALL, "demo": _DEMO}
# The paper's values (section V-A) where those of a task differ from the defaults, which are those of mortality. Every
# preset begins with them.
TASK_VALUES: dict[str, dict[str, dict[str, Any]]] = {
    "phenotyping": {"pretrain-ehr": {"lr": 1e-4}, "fuse": {"lr": 7e-5}},
}
# Twenty-five labels, most of them rare, need more steps than one does.
_SMALL_PHENOTYPING = {"pretrain-ehr": {"lr": 1e-3, "epochs": 40}, "fuse": {"lr": 3e-4}}
# What a preset says of one task alone.
_OF_TASK: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("small", "phenotyping"): _SMALL_PHENOTYPING,
    ("demo", "phenotyping"): _SMALL_PHENOTYPING,
}


def preset_values(preset: str, stage: str, task: str | None) -> dict[str, Any]:
    """What a preset says about a stage that works on a task (None: the stage knows no tasks)."""
    of_task = TASK_VALUES.get(task or "", {}), PRESETS[preset], _OF_TASK.get((preset, task or ""), {})
    return {name: value for values in of_task for name, value in values.get(stage, {}).items()}
