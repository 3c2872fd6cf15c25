"""What a run of a stage would make, known before it starts: the artifact's id, and why it must be made."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusionctl.fingerprint import fingerprint, stamp
from fusionctl.resolve import Inputs, describe
from fusionctl.settings import Runtime
from fusionctl.stages import HIDDEN, ROOT_PATTERNS, Stage
from fusionctl.workdir import Artifact, Work, artifact_id


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that determines a run of a stage, known before it starts.

    Attributes:
        stamps: size and time of every file that will be read, by which a change while the stage runs is noticed.
    """

    stage: Stage
    settings: dict[str, dict[str, Any]]
    inputs: Inputs
    roots: dict[str, Path]
    raw: dict[str, dict[str, Any]]
    runtime: Runtime
    stamps: Mapping[Path, tuple[int, int] | None] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What the artifact's id is the hash of."""
        return {
            "stage": self.stage.name,
            "schema": self.stage.schema_version,
            "settings": {name: entry["value"] for name, entry in self.settings.items()},
            "seed": self.runtime.seed if self.stage.seeded else None,
            "inputs": {**self.input_ids, **self._contents},
            "raw": {name: entry["digest"] for name, entry in self.raw.items()},
        }

    @property
    def _contents(self) -> dict[str, str]:
        """Digests of the single files that the stage reads of some inputs (unknown on a dry run: the id stands in)."""
        files = {name: self.inputs[name].manifest.get("files", {}) for name in self.stage.content_of}
        return {n: files[n][f]["sha256"] for n, f in self.stage.content_of.items() if f in files[n]}

    @property
    def input_ids(self) -> dict[str, Any]:
        """Ids of the upstream artifacts by stage."""
        return {n: [x.id for x in a] if isinstance(a, list) else a.id for n, a in self.inputs.items() if a is not None}

    @property
    def id(self) -> str:
        """Id of the artifact that this run makes."""
        return artifact_id(self.identity)

    @property
    def command(self) -> str:
        """The command that makes this artifact, and no other, again."""
        defaults = {f.name: f.default for f in dataclasses.fields(self.stage.settings)}
        given = {n: e["value"] for n, e in self.settings.items() if _is_said(e, defaults.get(n))}
        name = self.stage.name
        if self.stage.hidden:  # a cell: made by a sweep of one model at one level
            name, level = "robustness", given.pop("level", 0.0)
            given = {n: v for n, v in given.items() if v not in ("", "clean")} | {"noise": level}
        borrowed = [f"{_variable(n)}={shlex.quote(str(value))}" for n, value in given.items() if "." in n]
        words = ["fusionctl", name]
        words += [word for n, value in given.items() if "." not in n for word in _flag(n, value)]
        pinned = {e.rstrip("*?") for e in self.stage.upstream if not e.endswith("+")} - set(HIDDEN)
        for source, ids in self.input_ids.items():
            if source in pinned:
                words += [word for i in ([ids] if isinstance(ids, str) else ids) for word in (f"--{source}", i)]
        words += [word for n, entry in self.raw.items() for word in _flag(n, entry["path"])]
        words += ["--seed", str(self.runtime.seed)] if self.stage.seeded and self.runtime.seed else []
        return " ".join([*borrowed, shlex.join(words)])


def _is_said(entry: Mapping[str, Any], default: Any) -> bool:
    return bool(entry["source"] != "default" or entry["value"] != default)


def _variable(name: str) -> str:
    """The environment variable of a setting STAGE.NAME."""
    return "FUSIONCTL_" + name.replace(".", "_").replace("-", "_").upper()


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    return [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]


def plan(
    stage: Stage,
    settings: dict[str, dict[str, Any]],
    inputs: Inputs,
    roots: Mapping[str, Path | None],
    runtime: Runtime,
) -> Plan:
    """Take the identities of all inputs, before anything runs.

    Raises:
        InputError: a raw root is missing or unreadable.
    """
    used = {name: path for name in stage.roots if (path := roots.get(name)) is not None}
    raw = {name: raw_identity(name, path) for name, path in used.items()}
    stamps = {path: stamp(path) for path in (*_raw_files(used, raw), *_input_files(inputs))}
    return Plan(stage=stage, settings=settings, inputs=inputs, roots=used, raw=raw, runtime=runtime, stamps=stamps)


def _raw_files(roots: Mapping[str, Path], raw: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    return [root if root.is_file() else root / file for name, root in roots.items() for file in raw[name]["files"]]


def _input_files(inputs: Inputs) -> list[Path]:
    artifacts = [a for entry in inputs.values() for a in (entry if isinstance(entry, list) else [entry]) if a]
    return [artifact.file(name) for artifact in artifacts for name in artifact.manifest.get("files", {})]


def raw_identity(name: str, path: Path) -> dict[str, Any]:
    """Where a raw root is, and the identities of its files with their digest."""
    files = fingerprint(path, ROOT_PATTERNS[name])
    return {"path": str(path.resolve()), "digest": artifact_id({"files": files}), "files": files}


def why(work: Work, plan: Plan) -> str:
    """Why a stage must run: what differs from the most similar artifact that is there."""
    others = work.artifacts(plan.stage.name)
    if not others:
        return "no artifact yet"
    inputs = {name: ids for name, ids in plan.input_ids.items() if name not in (*plan.stage.content_of, *HIDDEN)}
    wanted = {**plan.identity["settings"], **inputs, **plan.identity["raw"]}
    wanted |= {"seed": plan.identity["seed"], "schema version": plan.stage.schema_version}
    by_artifact = [(_changes(_compared(other, plan.stage), wanted), other) for other in reversed(others)]
    changes, nearest = min(by_artifact, key=lambda pair: len(pair[0]))
    return f"differs from {nearest.id} in " + ("; ".join(changes) or "nothing that the manifest records")


def _compared(artifact: Artifact, stage: Stage) -> dict[str, Any]:
    return {name: value for name, value in describe(artifact).items() if name not in stage.content_of}


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = sorted({*old, *new})
    return [f"{n}: {old.get(n, 'none')} -> {new.get(n, 'none')}" for n in names if old.get(n) != new.get(n)]


def staleness(work: Work, artifact: Artifact, stage: Stage) -> str | None:
    """Why a rerun would replace an artifact, or None while it is current."""
    if artifact.manifest["schema_version"] != stage.schema_version:
        return f"schema version {artifact.manifest['schema_version']} -> {stage.schema_version}"
    for name, ids in artifact.manifest["inputs"].items():
        gone = any(work.get(name, i) is None for i in ([ids] if isinstance(ids, str) else ids))
        if gone and name not in stage.content_of:
            return f"its {name} is gone"
    for name, entry in artifact.manifest["raw"].items():
        path = Path(entry["path"])
        if path.exists() and raw_identity(name, path)["digest"] != entry["digest"]:
            return f"files under {path} changed"
    return None
