"""What a work directory holds: the list of `status`, and what `clean` may remove."""

from __future__ import annotations

from typing import Any

from fusionctl import pipeline
from fusionctl.stages import STAGES
from fusionctl.workdir import Artifact, Work


def status_rows(work: Work) -> list[dict[str, Any]]:
    """One record an artifact: stage, id, time, what it is, rows, size, and why it is stale (None: it is not)."""
    rows = []
    for stage in STAGES.values():
        for artifact in work.artifacts(stage.name):
            manifest = artifact.manifest
            rows.append(
                {
                    "stage": stage.name,
                    "id": artifact.id,
                    "created": manifest["created"],
                    "what": " ".join(
                        str(artifact.setting(n)) for n in ("protocol", "task", "fusion") if artifact.setting(n)
                    ),
                    "inputs": manifest["inputs"],
                    "bytes": sum(f["size"] for f in manifest["files"].values()),
                    "sensitivity": manifest["sensitivity"],
                    "stale": pipeline.staleness(work, artifact, stage),
                }
            )
    return rows


def superseded(work: Work) -> list[Artifact]:
    """Artifacts that are stale, or older than another of the same stage, task and model, and not needed by one kept."""
    keep: set[tuple[str, str]] = set()
    found: list[Artifact] = []
    for stage in reversed(STAGES.values()):
        newest: dict[tuple[Any, ...], Artifact] = {}
        artifacts = work.artifacts(stage.name)
        for artifact in artifacts:
            if pipeline.staleness(work, artifact, stage) is None:
                newest[tuple(artifact.setting(n) for n in ("task", "protocol", "fold", "fusion"))] = artifact
        for artifact in artifacts:
            if artifact in newest.values() or (stage.name, artifact.id) in keep:
                keep |= {(n, i) for n, ids in artifact.manifest["inputs"].items() for i in _as_list(ids)}
            else:
                found.append(artifact)
    return found


def _as_list(ids: str | list[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else ids
