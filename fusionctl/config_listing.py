"""Every setting with its value and where that comes from: as records, as text, or as an annotated TOML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fusionctl.config import Sourced, variable_of

_HEAD = """\
# Settings for `fusionctl COMMAND --config FILE`, made by: fusionctl show-config --toml
# A line that begins with "# name =" shows the value that holds without it: remove the # to set another. A flag or an
# environment variable (FUSIONCTL_STAGE_NAME) wins over this file; this file wins over --preset. Tables are named after
# commands; an unknown table or name is an error that names the nearest known one.
"""
_WIDTH = 118


def described(stage: str, sourced: Sourced, config: Path | None) -> list[dict[str, Any]]:
    """One record a setting: stage, name, value, and its source by name (which variable, which file)."""
    places = {"config": f"config {config}"}
    return [
        {"stage": stage, "name": name, "value": entry["value"], "source": places.get(entry["source"], entry["source"])}
        | ({"source": f"environment {variable_of(stage, name)}"} if entry["source"] == "environment" else {})
        for name, entry in sourced.items()
    ]


def toml(common: Iterable[tuple[str, Any, bool, str]], stages: Mapping[str, tuple[type[Any], str, Sourced]]) -> str:
    """An annotated TOML file of all settings; those that have their default value are comments.

    Args:
        common: name, value, whether that is the default, and help of each common option.
        stages: settings class, help and sourced settings by stage.
    """
    tables = [
        "[common]\n" + "\n".join(_lines(name, value, help, is_default) for name, value, is_default, help in common)
    ]
    for stage, (cls, help, sourced) in stages.items():
        hints = get_type_hints(cls)
        lines = [f"\n[{stage}]  # {help}"]
        for field in dataclasses.fields(cls):
            value = sourced[field.name]["value"]
            choices = ", ".join(map(str, get_args(hints[field.name])))
            rule = f"one of: {choices}" if choices else _range(field.metadata)
            lines.append(_lines(field.name, value, field.metadata["help"], value == field.default, rule))
        tables.append("\n".join(lines))
    return _HEAD + "\n" + "\n".join(tables) + "\n"


def _range(rule: Mapping[str, Any]) -> str:
    low, high = rule["low"], rule["high"]
    return "" if low is None else f"from {low:g}" + ("" if high is None else f" to {high:g}")


def _lines(name: str, value: Any, help: str, is_default: bool, rule: str = "") -> str:
    """The comment above a setting, and the setting."""
    text = "\n".join(_wrapped(help + (f" [{rule}]" if rule else "")))
    return f"{text}\n{'# ' if is_default else ''}{name} = {_literal(value)}"


def _wrapped(text: str) -> Iterable[str]:
    import textwrap

    return textwrap.wrap(text, _WIDTH, initial_indent="## ", subsequent_indent="## ", break_long_words=False)


def _literal(value: Any) -> str:
    kinds: dict[type[Any], Callable[[Any], str]] = {bool: lambda v: str(v).lower(), int: str, float: repr}
    return kinds.get(type(value), lambda v: '"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"')(value)
