"""Where the value of a setting comes from: flag > environment > TOML file > preset > default."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fusionctl.errors import UsageError
from fusionctl.presets import PRESETS, preset_values
from fusionctl.settings import check

Sourced = dict[str, dict[str, Any]]

# Options of a run that are not settings of a stage; the TOML table [common] may set them.
_PATHS = ("work_dir", "mimic_root", "cxr_root", "split_file", "init", "stage_to")
COMMON = (*_PATHS, "seed", "jobs", "device", "preset")


def read_config(path: Path | None, stages: Mapping[str, type[Any]]) -> dict[str, dict[str, Any]]:
    """Read a TOML file of settings: one table a stage, and [common].

    Raises:
        UsageError: the file is unreadable, or has an unknown table or key (the nearest known one is named).
    """
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"--config {path}: {getattr(error, 'strerror', None) or error}", hint="give a readable TOML file"
        ) from error
    known = {name: [f.name for f in dataclasses.fields(cls)] for name, cls in stages.items()} | {"common": list(COMMON)}
    tables: dict[str, dict[str, Any]] = {}
    for table, values in content.items():
        _known(f"--config {path}: table [{table}]", table, known)
        if not isinstance(values, dict):
            raise UsageError(f"--config {path}: {table} must be a table", hint=f"write [{table}] on a line of its own")
        tables[table] = {key.replace("-", "_"): value for key, value in values.items()}
        for key in tables[table]:
            _known(f"--config {path}: [{table}] {key}", key, known[table])
    return tables


def _known(where: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
        raise UsageError(f"{where} is not known", hint=f"did you mean {near[0]}? Known: {', '.join(sorted(known))}")


def collect_common(
    flags: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of the common options: flag or environment (as the command line read them) > TOML > default.

    Raises:
        UsageError: a value in [common] is of another type, an empty path, or an unknown preset.
    """
    found: dict[str, Any] = {}
    for name, default in defaults.items():
        value = flags.get(name)
        if value is None and name in config.get("common", {}):
            value, kind = config["common"][name], int if isinstance(default, int) else str
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UsageError(f"[common] {name} must be of type {kind.__name__}; got {value!r}")
            if name in _PATHS and not value:
                raise UsageError(f"[common] {name} is empty", hint="give a path, or leave the line out")
        value = default if value is None else value
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"[common] {name} must not hold a NUL character")
        found[name] = Path(value) if name in _PATHS and value is not None else value
    if found["preset"] not in PRESETS:
        raise UsageError(f"--preset must be one of {', '.join(PRESETS)}; got {found['preset']!r}")
    return found


def parse_assignments(assignments: Iterable[str], stages: Mapping[str, type[Any]]) -> dict[str, dict[str, Any]]:
    """Parse `STAGE.NAME=VALUE` texts as given to `--set`.

    Raises:
        UsageError: the form, the stage, the name or the value is off.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in assignments:
        target, equals, value = text.partition("=")
        stage, dot, name = target.strip().partition(".")
        if not equals or not dot:
            raise UsageError(f"--set takes STAGE.NAME=VALUE; got {text!r}", hint="for example --set films.clahe=true")
        _known(f"--set {text}: stage {stage}", stage, stages)
        name = name.replace("-", "_")
        _known(f"--set {text}: {name}", name, [f.name for f in dataclasses.fields(stages[stage])])
        found.setdefault(stage, {})[name] = _from_text(stages[stage], name, value.strip(), f"--set {target}")
    return found


def everywhere(
    flags: Mapping[str, Mapping[str, Any]], stages: Mapping[str, type[Any]], values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Settings by stage, and with them those that one option gives to every stage that has them.

    The task of `pretrain-cxr` is its own: what its encoder learns.
    """
    found = {stage: dict(given) for stage, given in flags.items()}
    for name, value in values.items():
        for stage, cls in stages.items():
            if value and stage != "pretrain-cxr" and name in {field.name for field in dataclasses.fields(cls)}:
                found.setdefault(stage, {})[name] = value
    return found


def collect(
    stage: str,
    cls: type[Any],
    *,
    flags: Mapping[str, Any],
    config: Mapping[str, Mapping[str, Any]],
    preset: str,
    environment: Mapping[str, str] = os.environ,
) -> Sourced:
    """Value and source of every setting of a stage, checked.

    Returns:
        `{name: {"value": ..., "source": "flag" | "environment" | "config" | "preset NAME" | "default"}}`

    Raises:
        UsageError: a value is of another type, not among its choices, or out of its range.
    """
    given: Sourced = {}
    for name in (field.name for field in dataclasses.fields(cls)):
        variable = variable_of(stage, name)
        if flags.get(name) is not None:
            given[name] = {"value": flags[name], "source": "flag"}
        elif environment.get(variable):
            given[name] = {"value": _from_text(cls, name, environment[variable], variable), "source": "environment"}
        elif name in config.get(stage, {}):
            where = f"[{stage}] {name}"
            given[name] = {"value": _typed(cls, name, config[stage][name], where), "source": "config"}
    defaults = {field.name: {"value": field.default, "source": "default"} for field in dataclasses.fields(cls)}
    task: Any = (given.get("task") or defaults.get("task") or {"value": None})["value"]
    named = {n: {"value": v, "source": f"preset {preset}"} for n, v in preset_values(preset, stage, task).items()}
    sourced = {name: {**defaults, **named, **given}[name] for name in defaults}
    check(cls(**{name: entry["value"] for name, entry in sourced.items()}))
    return sourced


def variable_of(*names: str) -> str:
    """The environment variable of a setting (its stage, its name) or of a common option (its name)."""
    return "_".join(("FUSIONCTL", *names)).upper().replace("-", "_")


def known_variables(stages: Mapping[str, type[Any]]) -> set[str]:
    """Every environment variable that is read."""
    settings = {variable_of(stage, f.name) for stage, cls in stages.items() for f in dataclasses.fields(cls)}
    return settings | {variable_of(name) for name in (*COMMON, "config")}


def _kind(cls: type[Any], name: str) -> type[Any]:
    hint = get_type_hints(cls)[name]
    return type(get_args(hint)[0]) if get_args(hint) else hint


def _typed(cls: type[Any], name: str, value: Any, where: str) -> Any:
    kind = _kind(cls, name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > 1e308:  # no float holds it
            raise UsageError(f"{where} must be at most 1e308; got {value}", hint="give a smaller number")
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f"{where} must be of type {kind.__name__}; got {value!r}")
    return value


def _from_text(cls: type[Any], name: str, text: str, where: str) -> Any:
    kind = _kind(cls, name)
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        raise UsageError(f"{where} must be of type {kind.__name__}; got {text!r}") from error
