"""Which upstream artifacts a stage reads. Never a guess: one candidate, or an error that lists them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fusionctl.errors import InputError
from fusionctl.model_name import model_name, parts
from fusionctl.stages import HIDDEN, STAGES, WITHOUT_WEIGHTS, Stage, encoders_of
from fusionctl.workdir import Artifact, Work

Inputs = dict[str, Any]
RADIOLOGY = "radiology"  # the task of a film encoder that fits every task
TASKED = ("preprocess", "pretrain-ehr", "fuse", "evaluate", "robustness")  # stages whose command wants the task


def resolve(
    work: Work,
    stage: Stage,
    settings: Any,
    pins: Mapping[str, list[str]],
    models: Iterable[str],
    *,
    seed: int | None = None,
) -> Inputs:
    """Choose the upstream artifacts of a stage.

    Args:
        work: the work directory.
        stage: the stage about to run.
        settings: its settings; `task` and `fusion`, where it has them, narrow the choice.
        pins: ids (or their first digits) by stage, as given with `--preprocess ID` and the like.
        models: names of models to read where the stage reads several (see `workdir.model_name`); empty = all that
            there are.
        seed: of the run: of encoders that differ in nothing but their seed, a model takes the one of its own.

    Returns:
        An artifact by stage name; a list of artifacts where the stage reads several; None for an absent optional one.

    Raises:
        InputError: nothing fits (the message names the command to run first), or more than one fits.
    """
    chosen: Inputs = {}
    kinds = {entry.rstrip("*?+"): entry[-1] for entry in stage.upstream}
    for name, ids in pins.items():
        found = [work.find(name, prefix) for prefix in ids]
        if len(found) > 1 and kinds.get(name) != "*":
            raise InputError(f"{stage.name} reads one {name}; --{name} was given {len(found)} times")
        chosen[name] = found if kinds.get(name) == "*" else found[0]
        for artifact in found:
            _add_ancestors(work, artifact, chosen, kinds)
    task, protocol = getattr(settings, "task", None), getattr(settings, "protocol", None)
    task = None if task == RADIOLOGY else task  # the films of any task will do
    for name, kind in kinds.items():
        if name not in chosen and _needed(name, settings):
            chosen[name] = _choose(work, name, kind, stage, (task, protocol), models, chosen, seed)
            for artifact in chosen[name] if isinstance(chosen[name], list) else [chosen[name]]:
                _add_ancestors(work, artifact, chosen, kinds)
    return {name: chosen.get(name) for name in kinds}


def _choose(
    work: Work,
    name: str,
    kind: str,
    stage: Stage,
    wanted: tuple[str | None, str | None],
    models: Iterable[str],
    chosen: Inputs,
    seed: int | None,
) -> Artifact | list[Artifact] | None:
    if kind == "+":
        return []
    task, protocol = wanted
    fitting = [a for a in work.artifacts(name) if _fits(a, task, protocol, chosen)]
    if name in stage.content_of:
        fitting = _of_each_content(fitting, stage.content_of[name])
    if kind == "*":
        return _each_model(work, fitting, stage, task, list(models))
    if len(fitting) > 1 and _differ_in_seed_alone(work, fitting):
        fitting = [a for a in fitting if a.manifest["seed"] == seed] or fitting
    return _only(fitting, name, stage, task, protocol=protocol, optional=kind == "?")


def _of_each_content(artifacts: list[Artifact], file: str) -> list[Artifact]:
    """The newest artifact of each content of the one file that is read: those that agree in it are no choice."""
    newest = {a.manifest["files"].get(file, {}).get("sha256", a.id): a for a in artifacts}
    return list(newest.values())


def _needed(name: str, settings: Any) -> bool:
    """Whether this fusion reads this encoder; every other upstream stage is always needed."""
    fusion = getattr(settings, "fusion", None)
    if not name.startswith("pretrain-") or fusion is None:
        return True
    return name in encoders_of(fusion, from_scratch=settings.from_scratch)


def _add_ancestors(work: Work, artifact: Artifact | None, chosen: Inputs, kinds: Mapping[str, str]) -> None:
    """What a chosen artifact was made from is chosen with it: a model fits only the data it was trained on."""
    if artifact is None:
        return
    for name, ids in artifact.manifest["inputs"].items():
        if name in STAGES[artifact.stage].content_of or name in HIDDEN:
            continue  # any artifact with that content would have done; a sweep's cells are made from what it reads too
        for ancestor in [work.find(name, i) for i in ([ids] if isinstance(ids, str) else ids)]:
            if kinds.get(name, "") in ("*", "+"):
                known = chosen.setdefault(name, [])
                chosen[name] = known if ancestor.id in {a.id for a in known} else [*known, ancestor]
            elif name in kinds and chosen.setdefault(name, ancestor).id != ancestor.id:
                raise InputError(
                    f"{artifact.stage}/{artifact.id} was made from another {name} than {chosen[name].id}",
                    hint=f"choose artifacts of one line with --{name} ID; fusionctl status shows their inputs",
                )
            _add_ancestors(work, ancestor, chosen, kinds)


def _fits(artifact: Artifact, task: str | None, protocol: str | None, chosen: Inputs) -> bool:
    """Same task and protocol, and made from the artifacts already chosen."""
    if task and artifact.setting("task") not in (None, task, RADIOLOGY):
        return False
    if protocol and artifact.setting("protocol") not in (None, protocol):
        return False
    for name, ids in artifact.manifest["inputs"].items():
        known = chosen.get(name)
        known_ids = {a.id for a in known} if isinstance(known, list) else {known.id} if known else None
        if known_ids is not None and not set([ids] if isinstance(ids, str) else ids) <= known_ids:
            return False
    return True


def _only(
    fitting: list[Artifact],
    name: str,
    stage: Stage,
    task: str | None,
    *,
    protocol: str | None = None,
    optional: bool = False,
) -> Artifact | None:
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and optional:
        return None
    if not fitting:
        roots = " --mimic-root DIR --cxr-root DIR" if name in ("extract", "preprocess") else ""
        command = f"fusionctl {name}{roots}" + (f" --task {task}" if task and name in TASKED else "")
        command += f" --protocol {protocol}" if protocol not in (None, "paper") else ""
        raise InputError(
            f"{stage.name} reads the artifact of {name}, and there is none that fits", hint=f"run first: {command}"
        )
    raise InputError(
        f"{stage.name} found {len(fitting)} artifacts of {name} and does not guess between them:\n"
        + differences(fitting),
        hint=f"choose with --{name} ID, or remove the folder that you no longer want: work-dir/{name}/ID",
    )


def _each_model(
    work: Work, fitting: list[Artifact], stage: Stage, task: str | None, models: list[str]
) -> list[Artifact]:
    """Every model that was asked for, with all its seeds; of those trained on noise none is taken unless pinned."""
    by_model: dict[str, list[Artifact]] = {}
    for artifact in fitting:
        if not artifact.setting("train_noise"):
            by_model.setdefault(model_name(artifact), []).append(artifact)
    wanted = models or [m for m in by_model if stage.name != "robustness" or m not in WITHOUT_WEIGHTS]
    missing = [m for m in wanted if m not in by_model]
    if missing or not wanted:
        name = missing[0] if missing else "attention"
        fusion, loss = parts(name)
        command = f"fusionctl fuse --task {task} --fusion {fusion}" + (f" --loss {loss}" if loss else "")
        raise InputError(f"{stage.name} reads the model {name}, which is not there", hint=f"run first: {command}")
    found: list[Artifact] = []
    for artifacts in (by_model[m] for m in wanted):
        if len(artifacts) > 1 and _differ_in_seed_alone(work, artifacts):
            found += sorted(artifacts, key=lambda a: int(a.manifest["seed"]))
        elif one := _only(artifacts, "fuse", stage, task):
            found.append(one)
    return found


def _differ_in_seed_alone(work: Work, artifacts: list[Artifact]) -> bool:
    """Made alike, with encoders made alike, from different seeds."""
    seeds = [a.manifest["seed"] for a in artifacts]
    return len({_lineage(work, a) for a in artifacts}) == 1 and None not in seeds and len(set(seeds)) == len(seeds)


def _lineage(work: Work, artifact: Artifact) -> str:
    """Everything that determines an artifact but for the seeds: its own and those of its encoders."""
    manifest = artifact.manifest
    inputs = {
        name: _lineage(work, encoder) if name.startswith("pretrain-") and (encoder := work.get(name, ids)) else ids
        for name, ids in manifest["inputs"].items()
    }
    settings = {name: entry["value"] for name, entry in manifest["settings"].items()}
    raw = {name: entry["digest"] for name, entry in manifest.get("raw", {}).items()}
    return json.dumps([manifest["schema_version"], settings, inputs, raw], sort_keys=True)


def differences(artifacts: list[Artifact]) -> str:
    """One line an artifact: its id, its time, and only the settings, seed and inputs in which they differ."""
    facts = [describe(a) for a in artifacts]
    names = sorted({n for f in facts for n in f if len({str(g.get(n)) for g in facts}) > 1})
    lines = []
    for artifact, fact in zip(artifacts, facts, strict=True):
        parts = ", ".join(f"{n} {fact.get(n)}" for n in names) or "no difference in settings"
        lines.append(f"  {artifact.id}  {artifact.manifest['created']}  {parts}")
    return "\n".join(lines)


def describe(artifact: Artifact) -> dict[str, Any]:
    """What determines an artifact, flat: settings, seed, schema version, ids of inputs, digests of raw folders."""
    manifest = artifact.manifest
    raw = {name: entry["digest"] for name, entry in manifest.get("raw", {}).items()}
    values = {name: entry["value"] for name, entry in manifest["settings"].items()}
    extra = {"seed": manifest["seed"], "schema version": manifest["schema_version"]}
    inputs = {name: ids for name, ids in manifest["inputs"].items() if name not in HIDDEN}
    return {**values, **extra, **inputs, **raw}
