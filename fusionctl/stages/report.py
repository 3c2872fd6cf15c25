"""Stage `report`: one HTML page, and its tables in other formats, from everything that the other stages left.

    evaluate and robustness (metrics.json), extract and preprocess (attrition.json, pairing.json, samples.parquet,
    diagnoses.parquet), films, fuse and pretrain-* (history.jsonl, metrics.json), and the manifest of each
    ->  report.html, results.md, results.csv, results.tex, as asked for; tables.json (for the terminal)

Rows of patients are read here only to be counted; what is written holds aggregates alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusionctl import parquet, report, subgroups, terminal
from fusionctl.errors import InputError, UsageError
from fusionctl.model_name import model_name as model_of
from fusionctl.report import cohort
from fusionctl.report.names import ENSEMBLE, model_name
from fusionctl.settings import SENSITIVITIES, ReportSettings, Runtime
from fusionctl.workdir import Artifact, Draft

TRAINED = ("pretrain-ehr", "pretrain-cxr", "fuse")
STAGE_TITLES = {"pretrain-ehr": "Time-series encoder", "pretrain-cxr": "Film encoder"}
# The manifest's facts that the page shows. Not "raw": paths tell who the user is.
SHOWN = ("created", "seed", "device", "duration_s", "versions", "settings", "files", "sensitivity")


def run(draft: Draft, settings: ReportSettings, inputs: Mapping[str, Any], *, runtime: Runtime) -> None:
    """Write the formats asked for, and tables.json.

    Raises:
        UsageError: a format is not known.
        InputError: the evaluation is of another task, or of an earlier version.
    """
    formats = parse_formats(settings.format)
    content = gather(inputs)
    if content["metrics"]["task"] != settings.task:
        raise InputError(
            f"evaluate/{inputs['evaluate'].id} is of the task {content['metrics']['task']}, not {settings.task}",
            hint=f"run first: fusionctl evaluate --task {settings.task}",
        )
    for name in formats:
        file, write = report.FORMATS[name]
        draft.file(file).write_text(write(content), encoding="utf-8")
    draft.write_json("tables.json", [terminal.results(content["metrics"])])


def parse_formats(text: str) -> list[str]:
    """The formats of `--format`, each once.

    Raises:
        UsageError: one of them is not known, or there is none.
    """
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in chosen if name not in report.FORMATS]
    if unknown or not chosen:
        rule = f"--format must be some of {', '.join(report.FORMATS)}, separated by commas; got {text!r}"
        raise UsageError(rule, hint="for example: fusionctl report --format html,csv")
    return chosen


def gather(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What `report.render` takes, from the artifacts.

    Raises:
        InputError: the evaluation was made by an earlier version.
    """
    metrics = _results(inputs["evaluate"], "intervals")
    artifacts = _titled(inputs, metrics)
    return {
        "sensitivity": least_like_the_paper(artifact for _, artifact in artifacts),
        "metrics": metrics,
        "robustness": _results(inputs["robustness"], "chance") if inputs.get("robustness") else None,
        "attrition": [step for name in ("extract", "preprocess") for step in inputs[name].json("attrition.json")],
        "cohort": _cohort(inputs["extract"], inputs["preprocess"], metrics["labels"]),
        "pairing": inputs["preprocess"].json("pairing.json"),
        "parameters": _parameters(inputs["fuse"], _names(metrics)),
        "seconds": _seconds(inputs["fuse"], _names(metrics)),
        "clahe": any(a.setting("clahe") for a in _listed(inputs.get("films"))),
        "training": [
            {"title": name, "records": _history(a)}
            for name, a in artifacts
            if a.stage in TRAINED and not a.setting("train_noise")
        ],
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


def _results(artifact: Artifact, newest: str) -> dict[str, Any]:
    """metrics.json of an artifact; `newest` is a key that an earlier version did not write."""
    found: dict[str, Any] = artifact.json("metrics.json")
    if newest not in found:
        raise InputError(
            f"{artifact.stage}/{artifact.id} was made by an earlier version: its metrics.json has no {newest!r}",
            hint=f"run again: fusionctl {artifact.stage}",
        )
    return found


def _cohort(extract: Artifact, preprocess: Artifact, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    samples = parquet.read(preprocess.file("samples.parquet"))
    groups = subgroups.groups_of(
        samples["stay_id"].to_numpy(), samples, parquet.read(extract.file("diagnoses.parquet"))
    )
    hours = parquet.read(extract.file("stays.parquet"), columns=["stay_id", "los_hours"])
    samples = samples.join(hours, on="stay_id", how="left", maintain_order="left")
    columns = ["split", "subject_id", "age", "film", "los_hours", *labels]
    return cohort.describe({name: samples[name].to_numpy() for name in columns}, labels, groups)


def _parameters(models: Sequence[Artifact], names: Mapping[str, str]) -> dict[str, int]:
    """Number of parameters of each model that has weights."""
    found: dict[str, int] = {}
    for artifact in models:
        if artifact.id in names and (path := artifact.file("metrics.json")).exists():
            size = json.loads(path.read_text(encoding="utf-8")).get("parameters")
            found |= {names[artifact.id]: int(size)} if size else {}
    return found


def _seconds(models: Sequence[Artifact], names: Mapping[str, str]) -> dict[str, float]:
    """How long each model was trained; of seeds the mean."""
    found: dict[str, list[float]] = {}
    for artifact in models:
        if artifact.id in names and (seconds := artifact.manifest.get("duration_s")) is not None:
            found.setdefault(names[artifact.id], []).append(seconds)
    return {name: sum(each) / len(each) for name, each in found.items()}


def _names(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Name in the results by artifact; the ensemble of seeds is no artifact's own name."""
    return {i: name for name, ids in reversed(metrics["artifacts"].items()) for i in ids if not name.endswith(ENSEMBLE)}


def _listed(entry: Artifact | list[Artifact] | None) -> list[Artifact]:
    if entry is None:
        return []
    return entry if isinstance(entry, list) else [entry]


def _titled(inputs: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, Artifact]]:
    """Every artifact with what the page calls it: a model by its name in the results, another by its stage."""
    names = _names(metrics)
    artifacts = [artifact for entry in inputs.values() for artifact in _listed(entry)]
    titles = [_title(artifact, names) for artifact in artifacts]
    return [
        (f"{title}, seed {a.manifest['seed']}" if titles.count(title) > 1 else title, a)
        for title, a in zip(titles, artifacts, strict=True)
    ]


def _title(artifact: Artifact, names: Mapping[str, str]) -> str:
    if artifact.stage != "fuse":
        return STAGE_TITLES.get(artifact.stage, artifact.stage)
    noise = artifact.setting("train_noise")
    return model_name(names.get(artifact.id, model_of(artifact))) + (f", trained on {noise:.0%} noise" if noise else "")


def _history(artifact: Artifact) -> list[dict[str, Any]]:
    """Records of each epoch; none for a model that is not trained in epochs."""
    path = artifact.file("history.jsonl")
    if not path.exists():
        return []
    return [_finite(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
