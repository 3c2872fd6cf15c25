"""What a work directory holds: the list of `status`, and what `clean` may remove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusionctl import pipeline
from fusionctl.model_name import model_name
from fusionctl.settings import SENSITIVITIES
from fusionctl.stages import STAGES, Stage
from fusionctl.workdir import Artifact, Work

# Settings that make artifacts of one stage stand beside each other: with equal ones the newer replaces the older.
_BESIDE = ("task", "protocol", "fold", "fusion", "loss", "train_noise", "corruption", "level", "modality", "kind")


def status_rows(work: Work) -> list[dict[str, Any]]:
    """One record an artifact: stage, id, time, what it is, rows, size, and why it is stale (None: it is not)."""
    rows = []
    for stage in STAGES.values():
        if stage.hidden:
            rows += _summed_up(work, stage)
            continue
        for artifact in work.artifacts(stage.name):
            manifest = artifact.manifest
            rows.append(
                {
                    "stage": stage.name,
                    "id": artifact.id,
                    "created": manifest["created"],
                    "what": _what(artifact),
                    "inputs": manifest["inputs"],
                    "bytes": sum(f["size"] for f in manifest["files"].values()),
                    "sensitivity": manifest["sensitivity"],
                    "stale": pipeline.staleness(work, artifact, stage),
                }
            )
    return rows


def _summed_up(work: Work, stage: Stage) -> list[dict[str, Any]]:
    """One record of all artifacts of a stage that makes many."""
    artifacts = work.artifacts(stage.name)
    stale = [a for a in artifacts if pipeline.staleness(work, a, stage)]
    tasks = dict.fromkeys(str(artifact.setting("task")) for artifact in artifacts)
    sensitivities = [artifact.manifest["sensitivity"] for artifact in artifacts]
    record = {
        "stage": stage.name,
        "id": f"{len(artifacts)} of them",
        "created": max((a.manifest["created"] for a in artifacts), default=""),
        "what": ", ".join(tasks),
        "inputs": {},
        "bytes": sum(f["size"] for a in artifacts for f in a.manifest["files"].values()),
        "sensitivity": max(sensitivities, key=SENSITIVITIES.index, default=""),
        "stale": f"{len(stale)} of them" if stale else None,
    }
    return [record] if artifacts else []


def superseded(work: Work) -> list[Artifact]:
    """Artifacts that are stale or replaced by a newer one (see _BESIDE), and not needed by one kept."""
    keep: set[tuple[str, str]] = set()
    found: list[Artifact] = []
    for stage in reversed(STAGES.values()):
        newest: dict[tuple[Any, ...], Artifact] = {}
        artifacts = work.artifacts(stage.name)
        for artifact in artifacts:
            if pipeline.staleness(work, artifact, stage) is None:
                model = artifact.manifest["inputs"].get("fuse") if stage.name == "cell" else None
                beside = tuple(artifact.setting(n) for n in _BESIDE)
                newest[(*beside, artifact.manifest["seed"], model)] = artifact
        for artifact in artifacts:
            if artifact in newest.values() or (stage.name, artifact.id) in keep:
                keep |= {(n, i) for n, ids in artifact.manifest["inputs"].items() for i in _as_list(ids)}
            else:
                found.append(artifact)
    return found


def removable(work: Work) -> list[Path]:
    """Folders that `clean` removes: what is superseded, and what killed runs left of any stage."""
    left = [path for path in work.leftovers() if path.parent.name in STAGES]
    return [artifact.path for artifact in superseded(work)] + left


def _what(artifact: Artifact) -> str:
    said = [artifact.setting("protocol"), artifact.setting("task")]
    if artifact.setting("fusion"):
        seed = artifact.manifest["seed"]
        said += [model_name(artifact), f"seed {seed}" if seed else None]
    return " ".join(str(word) for word in said if word)


def _as_list(ids: str | list[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else ids
