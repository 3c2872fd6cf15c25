"""Commands about where and with what settings fusionctl runs: `doctor`, `show-config` and `export-slurm`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fusionctl import console
from fusionctl.config import (
    collect,
    collect_common,
    everywhere,
    parse_assignments,
    read_config,
    variable_of,
)
from fusionctl.config_listing import described, toml
from fusionctl.errors import InputError, UsageError
from fusionctl.export_slurm import Cluster, Run, export
from fusionctl.options import (
    COMMON_DEFAULTS,
    COMMON_HELP,
    NODE_HELP,
    ROOT_HELP,
    command_with,
    common_parameters,
    parameter,
)
from fusionctl.settings import Task
from fusionctl.stages import STAGES

# What stands in an annotated file for an option that has no default, or one that differs between machines.
_EXAMPLES = {
    "mimic_root": "/data/mimic-iv-2.2",
    "cxr_root": "/data/mimic-cxr-jpg-2.0.0",
    "split_file": "lists",
    "init": "resnet34.safetensors",
    "stage_to": "/tmp",
    "jobs": 8,
}
_SETTINGS = {name: stage.settings for name, stage in STAGES.items() if not stage.hidden}


def _common(values: dict[str, Any]) -> dict[str, Any]:
    return collect_common(values, read_config(values["config"], _SETTINGS), COMMON_DEFAULTS)


def _doctor(values: dict[str, Any]) -> None:
    from fusionctl import doctor

    found = doctor.findings(_common(values), _SETTINGS)
    faults = [finding for finding in found if finding.state == "fault"]
    if values["json"]:
        console.print_json({"ok": not faults, "findings": [dataclasses.asdict(finding) for finding in found]})
    else:
        width = max(len(finding.what) for finding in found)
        for finding in found:
            console.write(f"{finding.state:5}  {finding.what:{width}}  {finding.found}\n")
            console.write(f"{'':7}{'':{width}}  -> {finding.mend}\n" if finding.mend else "")
    if faults:
        first = f"{len(faults)} found, the first: {faults[0].what}: {faults[0].found}"
        raise InputError(f"fault: {first}", hint=faults[0].mend)


def _show_config(values: dict[str, Any]) -> None:
    config = read_config(values["config"], _SETTINGS)
    common = collect_common(values, config, COMMON_DEFAULTS)
    flags = everywhere(parse_assignments(values["set"] or [], _SETTINGS), _SETTINGS, {"task": values["task"]})
    if (stage := values["stage"]) and stage not in _SETTINGS:
        raise UsageError(f"show-config: {stage!r} is no stage", hint=f"known: {', '.join(_SETTINGS)}")
    chosen = [stage] if stage else list(_SETTINGS)
    sourced = {
        name: collect(name, _SETTINGS[name], flags=flags.get(name, {}), config=config, preset=common["preset"])
        for name in chosen
    }
    if values["toml"]:
        stages = {name: (_SETTINGS[name], STAGES[name].help, sourced[name]) for name in chosen}
        console.write(toml(_annotated(common), stages))
        return
    records = [_described_common(name, common[name], values, config) for name in common]
    records += [record for name in chosen for record in described(name, sourced[name], values["config"])]
    if values["json"]:
        console.print_json(records)
    else:
        rows = [[r["stage"], r["name"], "" if r["value"] is None else r["value"], r["source"]] for r in records]
        console.print_table("settings", ["stage", "setting", "value", "from"], rows)


def _described_common(name: str, value: Any, values: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    source = "default"
    if values.get(name) is not None:
        given = values["context"].get_parameter_source(name).name == "ENVIRONMENT"
        source = f"environment {variable_of(name)}" if given else "flag"
    elif name in config.get("common", {}):
        source = f"config {values['config']}"
    return {"stage": "common", "name": name, "value": str(value) if isinstance(value, Path) else value} | {
        "source": source
    }


def _annotated(common: dict[str, Any]) -> list[tuple[str, Any, bool, str]]:
    helps = {**ROOT_HELP, **NODE_HELP, **COMMON_HELP}
    rows = []
    for name, default in COMMON_DEFAULTS.items():
        help = re.sub(r" \(default: [^)]*\)", "", helps[name][1])
        unset = str(common[name]) == str(default)
        example = unset and name in _EXAMPLES
        rows.append(
            (name, _EXAMPLES[name] if example else common[name], unset, help + ("; an example:" if example else ""))
        )
    return rows


def _export_slurm(values: dict[str, Any]) -> None:
    if values["out"] is None:
        raise UsageError("export-slurm needs --out DIR")
    if values["stage_to"] == "":
        hint = "is a variable unset here? One that the nodes set stands in single quotes: --stage-to '$TMPDIR'"
        raise UsageError("--stage-to is empty", hint=hint)
    given = {field.name: values.get(field.name) for field in dataclasses.fields(Cluster)}
    cluster = Cluster(**{name: value for name, value in given.items() if value is not None})
    common = {name: values[name] for name in ("work_dir", "mimic_root", "cxr_root", "preset", "seed", "config")}
    models = [part.strip() for part in (values["models"] or "").split(",") if part.strip()]
    task = values["task"] or get_args(Task)[0]
    run = Run(task=task, models=models, noise=values["noise"], common=common, command=_typed(values))
    for path in export(values["out"], cluster, run):
        console.write(f"{path}\n")
    console.log.info("submit them with: %s", shlex.quote(str(values["out"] / "submit.sh")))


def _typed(values: dict[str, Any]) -> str:
    """The command that these values came from, so that it can be given again."""
    given = {name: value for name, value in values.items() if value is not None and not isinstance(value, bool)}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return shlex.join(["fusionctl", "export-slurm", *flags])


def _argument(name: str, kind: Any, help: str) -> inspect.Parameter:
    annotation = Annotated[kind | None, typer.Argument(help=help)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _cluster_parameters() -> list[inspect.Parameter]:
    hints = inspect.get_annotations(Cluster, eval_str=True)
    return [
        parameter(f.name, hints[f.name], f"{f.metadata['help']} (default: {f.default or 'none'})", panel="Cluster")
        for f in dataclasses.fields(Cluster)
    ]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    data = ("mimic_root", "cxr_root")
    app.command("doctor", help="Look at machine, installation and folders; say what is wrong and what mends it.")(
        command_with(_doctor, common_parameters(data, networks=True))
    )
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    show = [
        context,
        _argument("stage", str, "one stage (default: all)"),
        parameter("task", Task, "the outcome to predict (default: mortality)"),
        parameter("set", list[str], "STAGE.NAME=VALUE, as in run; may be repeated"),
        parameter("toml", bool, "print an annotated file for --config", "--toml"),
    ]
    app.command("show-config", help="Show every setting, its value, and where that comes from.")(
        command_with(_show_config, [*show, *common_parameters(tuple(ROOT_HELP), networks=True)])
    )
    wanted = ("config", "preset", "seed", "work_dir")
    slurm = [
        parameter("out", Path, "folder to write the scripts into"),
        parameter("task", Task, "the outcome to predict (default: mortality)"),
        parameter("models", str, "comma-separated models to train (default: those of run)"),
        parameter("noise", str, "noise levels of the robustness sweep (default: 0.1:0.6)"),
        *(parameter(name, *{**ROOT_HELP, **COMMON_HELP}[name], panel="Data and settings") for name in (*data, *wanted)),
        *_cluster_parameters(),
    ]
    app.command("export-slurm", help="Write Slurm scripts of the whole pipeline, with your partition and paths.")(
        command_with(_export_slurm, slurm)
    )
