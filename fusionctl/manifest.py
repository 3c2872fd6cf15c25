"""What an artifact's manifest says of the run that made it."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from fusionctl import __version__, distributed
from fusionctl.plan import Plan
from fusionctl.settings import SENSITIVITIES
from fusionctl.workdir import Draft

_VERSIONS = ("torch", "torchvision", "polars", "numpy", "opencv-python-headless", "scikit-learn")


def content(plan: Plan, draft: Draft, seconds: float) -> dict[str, Any]:
    """What the manifest says of a run, but for what publication adds: rows, files and their hashes.

    Args:
        plan: of the run.
        draft: what the stage has written; it may know how sensitive its data are.
        seconds: how long it took.
    """
    return {
        "stage": plan.stage.name,
        "id": plan.id,
        "schema_version": plan.stage.schema_version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": round(seconds, 2),
        "settings": plan.settings,
        "command": plan.command,
        "seed": plan.runtime.seed if plan.stage.seeded else None,
        "inputs": plan.input_ids,
        "raw": plan.raw,
        "device": plan.runtime.device,
        "threads": plan.runtime.jobs,
        "processes": distributed.place().size,
        "versions": _versions(),
        "sensitivity": _sensitivity(plan, draft),
    }


def _versions() -> dict[str, str]:
    own = {"fusionctl": __version__, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in _VERSIONS}


def _sensitivity(plan: Plan, draft: Draft) -> str:
    """That of the most sensitive thing the artifact was made from; where none is known, the greatest."""
    found = [draft.facts.get("sensitivity")]
    for entry in plan.inputs.values():
        found += [a.manifest["sensitivity"] for a in (entry if isinstance(entry, list) else [entry]) if a is not None]
    known = [s for s in found if s in SENSITIVITIES]
    return max(known, key=SENSITIVITIES.index) if known else SENSITIVITIES[-1]
