"""Typer options made from the stages' settings, and the frame in which every command runs."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from fusionctl import console, distributed
from fusionctl.config import variable_of
from fusionctl.errors import FusionctlError, UsageError
from fusionctl.presets import PRESETS
from fusionctl.settings import default_jobs
from fusionctl.stages import Stage

COMMON_DEFAULTS: dict[str, Any] = {
    "work_dir": "work",
    "mimic_root": None,
    "cxr_root": None,
    "split_file": None,
    "init": None,
    "stage_to": None,
    "seed": 0,
    "jobs": default_jobs(),
    "device": "auto",
    "preset": "paper",
}
_LONGEST_MESSAGE = 2000  # characters
_PATH = "<path>"  # how help and the code below know an option that is a path
COMMON_HELP = {
    "work_dir": (Path, "folder of all artifacts (default: work)"),
    "config": (Path, "TOML file: one table a stage, and one named common"),
    "preset": (str, f"named defaults: {', '.join(PRESETS)} (default: paper)"),
    "seed": (int, "seed of everything random (default: 0)"),
    "jobs": (int, f"processes and threads (default: {default_jobs()}, the processors this process may use)"),
    "device": (str, "auto, cpu, cuda or cuda:N (default: auto)"),
    "force": (bool, "run even if the artifact is up to date"),
    "dry_run": (bool, "say what would run, and why; run nothing"),
    "json": (bool, "print the result as JSON on standard output"),
    "quiet": (bool, "warnings and errors only"),
    "verbose": (bool, "details, and the traceback of an internal error"),
}
ROOT_HELP = {
    "mimic_root": (Path, "MIMIC-IV folder, the one that holds hosp/ and icu/ (v1.0: and core/)"),
    "cxr_root": (Path, "MIMIC-CXR-JPG folder, the one that holds files/ and the .csv.gz tables"),
    "split_file": (Path, "folder with MedFuse's testset.csv and valset.csv, or a CSV file with subject_id,split"),
    "init": (Path, "weights to begin the film encoder with (safetensors), instead of random ones"),
}
NODE_HELP = {
    "stage_to": (Path, "folder on the node's own disk to read the arrays from: copied there once, and compared"),
}


def parameter(name: str, kind: Any, help: str, *names: str, panel: str | None = None) -> inspect.Parameter:
    """One keyword-only Typer option; None means not given, so that other sources can fill it."""
    flag = "--" + name.replace("_", "-")
    environment = variable_of(name) if name in (*COMMON_DEFAULTS, "config") else None
    declared = names or ((f"{flag}/--no-{flag[2:]}",) if kind is bool and name not in COMMON_HELP else (flag,))
    # readable: a folder that may not be read is missing input (exit code 3), not wrong usage; it is checked on opening.
    info = typer.Option(
        *declared,
        help=help,
        metavar=_PATH if kind is Path else None,
        envvar=environment,
        readable=False,
        show_envvar=False,
        show_default=False,
        rich_help_panel=panel,
    )
    default = False if kind is bool and name in COMMON_HELP else None
    kind = str if kind is Path else kind  # an empty one must not become Path("."); `_with_paths` makes them paths
    annotation: Any = Annotated[kind if default is False else kind | None, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def common_parameters(roots: tuple[str, ...], *, networks: bool = False) -> list[inspect.Parameter]:
    """The options of every command, after the raw folders that this one reads and what networks are told of nodes."""
    table = {**{name: ROOT_HELP[name] for name in roots}, **(NODE_HELP if networks else {}), **COMMON_HELP}
    return [parameter(name, kind, help, panel="Common options") for name, (kind, help) in table.items()]


def setting_parameters(stage: Stage) -> list[inspect.Parameter]:
    """One option a setting of the stage."""
    hints = get_type_hints(stage.settings)
    first = ("task", "fusion")
    fields = sorted(dataclasses.fields(stage.settings), key=lambda field: field.name not in first)
    return [
        parameter(f.name, hints[f.name], f"{f.metadata['help']} (default: {_shown(f.default)})", panel="Settings")
        for f in fields
    ]


def _shown(default: Any) -> str:
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)


def pin_parameters(stage: Stage) -> list[inspect.Parameter]:
    """One option an upstream stage: which of its artifacts to read."""
    names = [entry.rstrip("*?+") for entry in stage.upstream if not entry.endswith("+")]
    help = "id of the {} artifact to read, when there are several"
    pins = [parameter(pin_name(n), list[str], help.format(n), f"--{n}", panel="Inputs") for n in names]
    if "fuse*" in stage.upstream:
        models = "comma-separated models to read, FUSION or FUSION+LOSS (default: all that there are)"
        pins.append(parameter("models", str, models, panel="Inputs"))
    return pins


def parse_shard(text: str) -> tuple[int, int]:
    """Parse I/N: share I, from 1, of N.

    Raises:
        UsageError: it is not of that form, or I is not from 1 to N.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    i, n = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= i <= n:
        raise UsageError(f"--shard takes I/N with 1 <= I <= N; got {text!r}", hint="for example --shard 3/16")
    return i, n


def pin_name(stage: str) -> str:
    """Parameter name of the option that chooses an artifact of `stage`."""
    return "use_" + stage.replace("-", "_")


def command_with(body: Callable[[dict[str, Any]], None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """A Typer command with these options whose failures end as one clear message and an exit code."""

    def command(**values: Any) -> None:
        os.umask(0o077)  # patient data: nothing that fusionctl writes is readable by others
        console.configure_logging(quiet=values.get("quiet", False), verbose=values.get("verbose", False))
        try:
            if not distributed.place().leads:  # of several processes that train together one speaks for all
                console.configure_logging(quiet=True, verbose=False)
            body(_with_paths(values, parameters))
        except FusionctlError as error:
            sys.stderr.write(f"error: {_shortened(str(error))}\n")
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:  # who read the output has gone, as after `| head`
            console.drop_output()
            raise typer.Exit(0) from None
        except KeyboardInterrupt as error:
            sys.stderr.write("stopped; nothing half-written is left visible\n")
            raise typer.Exit(130) from error
        except Exception as error:
            _report_bug(error, verbose=values.get("verbose", False))
            raise typer.Exit(1) from error

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _with_paths(values: dict[str, Any], parameters: list[inspect.Parameter]) -> dict[str, Any]:
    """The values of a command, texts that name files as paths.

    Raises:
        UsageError: one is empty; as a path it would be the current folder.
    """
    options = {p.name: info for p in parameters for info in get_args(p.annotation)[1:]}
    paths = [n for n, o in options.items() if getattr(o, "metavar", None) == _PATH and values[n] is not None]
    for name in paths:
        if not values[name]:
            hint = "is a variable unset? Give a path, or leave the option out"
            raise UsageError(f"--{name.replace('_', '-')} is empty", hint=hint)
    return values | {name: Path(values[name]) for name in paths}


def _shortened(text: str) -> str:
    """A message without the middle of what somebody gave in place of a word or a number."""
    return (
        text
        if len(text) <= _LONGEST_MESSAGE
        else f"{text[: _LONGEST_MESSAGE // 2]} [...] {text[-_LONGEST_MESSAGE // 4 :]}"
    )


def _report_bug(error: Exception, *, verbose: bool) -> None:
    """Name an unforeseen failure by type and place; its text may hold patient data and is shown only on request."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    sys.stderr.write(f"internal error: {type(error).__name__} at {where}\n  -> rerun with --verbose for the details\n")
    if verbose:
        traceback.print_exception(error)
