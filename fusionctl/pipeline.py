"""Running one stage: identity, up-to-date check, lock, draft, publication.

This is the only caller of the stage modules, and the only place where their failures become one clear error.
"""

from __future__ import annotations

import importlib
import logging
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fusionctl import __version__
from fusionctl.errors import FusionctlError, InputError, Interrupted, UsageError
from fusionctl.fingerprint import fingerprint
from fusionctl.resolve import Inputs, describe
from fusionctl.settings import Runtime
from fusionctl.stages import ROOT_PATTERNS, Stage
from fusionctl.workdir import Artifact, Draft, Work, artifact_id, writable

log = logging.getLogger("fusionctl")

# From the least to the most sensitive: an artifact is as sensitive as the most sensitive thing it was made from.
SENSITIVITIES = ("synthetic", "open", "credentialed")
_VERSIONS = ("torch", "torchvision", "polars", "numpy", "opencv-python-headless", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that determines a run of a stage, known before it starts."""

    stage: Stage
    settings: dict[str, dict[str, Any]]
    inputs: Inputs
    roots: dict[str, Path]
    raw: dict[str, dict[str, Any]]
    runtime: Runtime

    @property
    def identity(self) -> dict[str, Any]:
        """What the artifact's id is the hash of."""
        return {
            "stage": self.stage.name,
            "schema": self.stage.schema_version,
            "settings": {name: entry["value"] for name, entry in self.settings.items()},
            "seed": self.runtime.seed if self.stage.seeded else None,
            "inputs": self.input_ids,
            "raw": {name: entry["digest"] for name, entry in self.raw.items()},
        }

    @property
    def input_ids(self) -> dict[str, Any]:
        """Ids of the upstream artifacts by stage."""
        return {n: [x.id for x in a] if isinstance(a, list) else a.id for n, a in self.inputs.items() if a is not None}

    @property
    def id(self) -> str:
        """Id of the artifact that this run makes."""
        return artifact_id(self.identity)


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
    raw = {name: _raw_identity(name, path) for name, path in used.items()}
    return Plan(stage=stage, settings=settings, inputs=inputs, roots=used, raw=raw, runtime=runtime)


def _raw_identity(name: str, path: Path) -> dict[str, Any]:
    files = fingerprint(path, ROOT_PATTERNS[name])
    return {"path": str(path.resolve()), "digest": artifact_id({"files": files}), "files": files}


def execute(work: Work, plan: Plan, *, force: bool = False, dry_run: bool = False) -> Artifact:
    """Run a stage unless its artifact is there already.

    Returns:
        The artifact, new or old; on a dry run, one that stands for it and has an empty manifest.

    Raises:
        FusionctlError: with one clear message; nothing half-written stays visible.
    """
    name = plan.stage.name
    existing = work.get(name, plan.id)
    if existing and not force:
        log.info("%s: up to date (%s)", name, plan.id)
        return existing
    reason = "--force" if existing else why(work, plan)
    if dry_run:
        log.info("%s: would run (%s): %s", name, plan.id, reason)
        return Artifact(name, plan.id, work.path(name, plan.id), {})
    writable(work.root)
    with work.lock(name, plan.id):
        existing = work.get(name, plan.id)
        if existing and not force:
            log.info("%s: up to date (%s): another run has just made it", name, plan.id)
            return existing
        log.info("%s: running (%s): %s", name, plan.id, reason)
        return _run(work, plan, resume=plan.stage.trains and not force)


def _run(work: Work, plan: Plan, *, resume: bool) -> Artifact:
    for entry in plan.inputs.values():
        for artifact in entry if isinstance(entry, list) else [entry]:
            if artifact is not None:
                artifact.verify()
    plan = replace(plan, runtime=_runtime(plan))
    started = time.perf_counter()
    draft = work.draft(plan.stage.name, plan.id, resume=resume)
    try:
        _call(plan, draft)
        _check_unchanged(plan)
        manifest = _manifest(plan, draft, time.perf_counter() - started)
        artifact = work.publish(draft, manifest)
    except (Interrupted, KeyboardInterrupt):
        if not plan.stage.trains:
            shutil.rmtree(draft.path, ignore_errors=True)
        raise
    except Exception as error:
        shutil.rmtree(draft.path, ignore_errors=True)
        raise _explained(error, plan.stage.name) from error
    log.info("%s: done in %.1f s -> %s", plan.stage.name, manifest["duration_s"], artifact.path)
    return artifact


def _runtime(plan: Plan) -> Runtime:
    """Resolve the device and set the threads of the stages that run networks; the others never import torch."""
    if not plan.stage.networks:
        return replace(plan.runtime, device="cpu")
    import torch

    torch.set_num_threads(plan.runtime.jobs)
    device = plan.runtime.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    usable = device == "cpu" or (device.split(":")[0] == "cuda" and torch.cuda.is_available())
    if not usable:
        raise UsageError(f"--device {device}: not available here", hint="use --device auto or --device cpu")
    return replace(plan.runtime, device=device)


def _call(plan: Plan, draft: Draft) -> None:
    module = importlib.import_module(plan.stage.module)
    roots = {name: plan.roots.get(name) for name in plan.stage.roots}
    values = plan.stage.settings(**{name: entry["value"] for name, entry in plan.settings.items()})
    module.run(draft, values, {**plan.inputs, **roots}, runtime=plan.runtime)


def _check_unchanged(plan: Plan) -> None:
    for name, before in plan.raw.items():
        after = _raw_identity(name, plan.roots[name])["files"]
        changed = [f for f in {**before["files"], **after} if before["files"].get(f) != after.get(f)]
        if changed:
            raise InputError(
                f"{plan.roots[name] / changed[0]} changed while {plan.stage.name} ran; its result is not kept",
                hint="wait until the copy or download has ended, then run the same command again",
            )


def _explained(error: Exception, stage: str) -> Exception:
    """Turn a failed write or read into one clear error; anything else is a bug and stays as it is."""
    if isinstance(error, FusionctlError):
        return error
    text = str(error)
    if "No space left" in text or "os error 28" in text or "Disk quota" in text:
        return FusionctlError(
            f"{stage}: the disk is full: {text}", hint="free space or choose another --work-dir, then rerun"
        )
    if isinstance(error, OSError) and error.strerror:
        return FusionctlError(
            f"{stage}: {error.filename}: {error.strerror}", hint="mend it, then run the same command again"
        )
    return error


def _manifest(plan: Plan, draft: Draft, seconds: float) -> dict[str, Any]:
    return {
        "stage": plan.stage.name,
        "id": plan.id,
        "schema_version": plan.stage.schema_version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": round(seconds, 2),
        "settings": plan.settings,
        "seed": plan.runtime.seed if plan.stage.seeded else None,
        "inputs": plan.input_ids,
        "raw": plan.raw,
        "device": plan.runtime.device,
        "threads": plan.runtime.jobs,
        "versions": _versions(),
        "sensitivity": _sensitivity(plan, draft),
    }


def _versions() -> dict[str, str]:
    own = {"fusionctl": __version__, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in _VERSIONS}


def _sensitivity(plan: Plan, draft: Draft) -> str:
    found = [draft.facts.get("sensitivity")]
    for entry in plan.inputs.values():
        found += [a.manifest["sensitivity"] for a in (entry if isinstance(entry, list) else [entry]) if a is not None]
    known = [s for s in found if s in SENSITIVITIES]
    return max(known, key=SENSITIVITIES.index) if known else SENSITIVITIES[-1]


def why(work: Work, plan: Plan) -> str:
    """Why a stage must run: what differs from the most similar artifact that is there."""
    others = work.artifacts(plan.stage.name)
    if not others:
        return "no artifact yet"
    wanted = {**plan.identity["settings"], **plan.input_ids, **plan.identity["raw"]}
    wanted |= {"seed": plan.identity["seed"], "schema version": plan.stage.schema_version}
    by_artifact = [(_changes(describe(other), wanted), other) for other in reversed(others)]
    changes, nearest = min(by_artifact, key=lambda pair: len(pair[0]))
    return f"differs from {nearest.id} in " + ("; ".join(changes) or "nothing that the manifest records")


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = sorted({*old, *new})
    return [f"{n}: {old.get(n, 'none')} -> {new.get(n, 'none')}" for n in names if old.get(n) != new.get(n)]


def staleness(work: Work, artifact: Artifact, stage: Stage) -> str | None:
    """Why a rerun would replace an artifact, or None while it is current."""
    if artifact.manifest["schema_version"] != stage.schema_version:
        return f"schema version {artifact.manifest['schema_version']} -> {stage.schema_version}"
    for name, ids in artifact.manifest["inputs"].items():
        if any(work.get(name, i) is None for i in ([ids] if isinstance(ids, str) else ids)):
            return f"its {name} is gone"
    for name, entry in artifact.manifest["raw"].items():
        path = Path(entry["path"])
        if path.is_dir() and _raw_identity(name, path)["digest"] != entry["digest"]:
            return f"files under {path} changed"
    return None
