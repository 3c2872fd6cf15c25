"""Stage `report`: one HTML page and one Markdown file from everything that the other stages left.

    evaluate (metrics.json), robustness (curve.parquet), extract and preprocess (attrition.json, pairing.json,
    samples.parquet), fuse and pretrain-* (history.jsonl), and the manifest of each
    ->  report.html, results.md, tables.json (for the terminal)

Rows of patients are read here only to be counted; what is written holds aggregates alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from fusionctl import report
from fusionctl.errors import InputError
from fusionctl.report import tables as report_tables
from fusionctl.settings import ReportSettings, Runtime
from fusionctl.workdir import Artifact, Draft

# From the least to the most like the paper's data: the page is only as comparable as the least of what went in.
SENSITIVITIES = ("synthetic", "open", "credentialed")
TRAINED = ("pretrain-ehr", "pretrain-cxr", "fuse")
STAGE_TITLES = {"pretrain-ehr": "Time-series encoder", "pretrain-cxr": "Film encoder"}
# The manifest's facts that the page shows. Not "raw": paths tell who the user is.
SHOWN = ("created", "seed", "device", "versions", "settings", "files", "sensitivity")


def run(draft: Draft, settings: ReportSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write report.html, results.md and tables.json.

    Raises:
        InputError: the evaluation is of another task.
    """
    content = gather(inputs)
    if content["metrics"]["task"] != settings.task:
        raise InputError(
            f"evaluate/{inputs['evaluate'].id} is of the task {content['metrics']['task']}, not {settings.task}",
            hint=f"run first: fusionctl evaluate --task {settings.task}",
        )
    draft.file("report.html").write_text(report.render(content), encoding="utf-8")
    draft.file("results.md").write_text(report.markdown(content), encoding="utf-8")
    draft.write_json("tables.json", [report_tables.terminal_table(content["metrics"])])


def gather(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What `report.render` takes, from the artifacts."""
    metrics = inputs["evaluate"].json("metrics.json")
    artifacts = [(_name(a, metrics), a) for entry in inputs.values() for a in _listed(entry)]
    samples = pl.read_parquet(inputs["preprocess"].file("samples.parquet"))
    columns = ["split", "subject_id", "age", "sex", "film", *metrics["labels"]]
    return {
        "sensitivity": least_like_the_paper(artifact for _, artifact in artifacts),
        "metrics": metrics,
        "robustness": _curve(inputs["robustness"]),
        "attrition": [step for name in ("extract", "preprocess") for step in inputs[name].json("attrition.json")],
        "cohort": report_tables.cohort({name: samples[name].to_numpy() for name in columns}, metrics["labels"]),
        "pairing": inputs["preprocess"].json("pairing.json"),
        "training": [{"title": name, "records": _history(a)} for name, a in artifacts if a.stage in TRAINED],
        "artifacts": [
            {
                "name": f"{a.stage}: {name}" if a.stage in TRAINED else name,
                "id": a.id,
                **{key: a.manifest.get(key) for key in SHOWN},
            }
            for name, a in artifacts
        ],
    }


def least_like_the_paper(artifacts: Iterable[Artifact]) -> str:
    """Sensitivity for the banner: one synthetic or open source, such as made-up films, decides.

    A manifest's own sensitivity is that of its most sensitive source; `sources` holds each source's, where recorded.
    """
    found = {value for a in artifacts for value in [a.manifest["sensitivity"], *a.manifest.get("sources", {}).values()]}
    return str(min(found, key=SENSITIVITIES.index))


def _listed(entry: Artifact | list[Artifact] | None) -> list[Artifact]:
    if entry is None:
        return []
    return entry if isinstance(entry, list) else [entry]


def _name(artifact: Artifact, metrics: Mapping[str, Any]) -> str:
    """What the page calls an artifact: a model by its name in the results, another by its stage."""
    models = {identity: name for name, identity in metrics["artifacts"].items()}
    if artifact.stage == "fuse":
        return report_tables.model_name(models.get(artifact.id, str(artifact.setting("fusion"))))
    return STAGE_TITLES.get(artifact.stage, artifact.stage)


def _curve(artifact: Artifact | None) -> list[dict[str, Any]]:
    if artifact is None:
        return []
    return [_finite(row) for row in pl.read_parquet(artifact.file("curve.parquet")).to_dicts()]


def _history(artifact: Artifact) -> list[dict[str, Any]]:
    """Records of each epoch; none for a model that is not trained in epochs."""
    path = artifact.file("history.jsonl")
    if not path.exists():
        return []
    return [_finite(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
