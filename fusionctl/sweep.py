"""A robustness sweep: plans its cells, makes those that are missing, and has them merged into curves.

A cell is an artifact, made by the ordinary pipeline, so a stopped sweep goes on, several jobs make shares of one, and a
wider sweep takes the cells of a narrower one. What the cells of one process share is opened and verified once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fusionctl import pipeline
from fusionctl.config import Sourced
from fusionctl.errors import InputError, LockedError, UsageError
from fusionctl.plan import Plan
from fusionctl.settings import Runtime
from fusionctl.stages import STAGES, WITHOUT_WEIGHTS, encoders_of
from fusionctl.workdir import QUICK_BYTES, Artifact, Work

if TYPE_CHECKING:
    from fusionctl.corruption_cells import Cell

log = logging.getLogger("fusionctl")


@dataclass(frozen=True)
class _Planned:
    """A cell, and where it reads a model trained for it alone, that model's training."""

    cell: Plan
    training: Plan | None


def run(
    work: Work,
    runtime: Runtime,
    sourced: Sourced,
    inputs: Mapping[str, Any],
    *,
    shard: tuple[int, int] | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Artifact | None:
    """Make the cells of a sweep and merge them.

    Args:
        work: the work directory.
        runtime: its seed is that of the corruptions and resamples.
        sourced: settings of `robustness`.
        inputs: `preprocess`, and `fuse`: the networks.
        shard: make share I of N of the cells only, beside other jobs.
        force: make the cells anew; models trained on noise are kept.
        dry_run: say what would run, and run nothing.

    Returns:
        The artifact of `robustness`; None after one share.

    Raises:
        UsageError: a setting breaks its rule, or a model is no network.
        InputError: a model belongs to other data, or there is no test stay.
        LockedError: another job is at work on a cell.
    """
    runtime = replace(runtime, kept={})
    models: list[Artifact] = inputs["fuse"]
    planned: list[_Planned] = []
    if all(model.manifest for model in models):  # on a dry run a model may not be there yet
        _check(models, inputs["preprocess"])
        planned = _plan_cells(work, runtime, STAGES["robustness"].values(sourced), inputs)
    whole = _merge(runtime, sourced, inputs, [_stub(work, p.cell) for p in planned])
    if not force and (existing := work.get("robustness", whole.id)):
        log.info("robustness: up to date (%s)", whole.id)
        work.sweep_lock("robustness", whole.id)
        return None if shard else existing.verify(largest=QUICK_BYTES)
    i, n = shard or (1, 1)
    share = planned[i - 1 :: n]
    missing = [p for p in share if force or not work.get("cell", p.cell.id)]
    what = f"share {i} of {n}: " if shard else ""
    log.info("robustness: %s%d cells, %d of them to make", what, len(share), len(missing))
    if dry_run:
        return None if shard else pipeline.execute(work, whole, force=force, dry_run=True)
    waiting = _make(work, missing, runtime, force=force)
    if shard:
        more = f" ({len(waiting)} left to other jobs)" if waiting else ""
        log.info("robustness: share %d of %d done%s; after all shares run the same without --shard", i, n, more)
        return None
    cells = [_execute(work, p, force=False) for p in planned]
    return pipeline.execute(work, _merge(runtime, sourced, inputs, cells), force=force)


def _check(models: Sequence[Artifact], preprocess: Artifact) -> None:
    for model in models:
        if model.setting("fusion") in WITHOUT_WEIGHTS:
            raise UsageError(
                f"fuse/{model.id} ({model.setting('fusion')}) reads summaries and has no weights; "
                "rule: robustness takes networks",
                hint="choose the models, for example: fusionctl robustness --models attention,ehr",
            )
        source = model.manifest["inputs"].get("preprocess")
        if source != preprocess.id:
            raise InputError(
                f"fuse/{model.id} was trained on preprocess/{source}, not on preprocess/{preprocess.id}",
                hint=f"choose its data: fusionctl robustness --preprocess {source}",
            )


def _plan_cells(work: Work, runtime: Runtime, settings: Any, inputs: Mapping[str, Any]) -> list[_Planned]:
    """The cells in the order in which `robustness` reads them."""
    from fusionctl import corruption_cells  # numpy comes with these
    from fusionctl.noise import parse_levels

    models: list[Artifact] = inputs["fuse"]
    curves = corruption_cells.curves(
        settings.corruption, kind=settings.kind, modality=settings.modality, train_on=settings.train_on
    )
    if any(curve.trained == "noisy" for curve in curves):
        scratch = all(model.setting("from_scratch") for model in models)
        log.info("robustness: models for noisy input start from %s", "scratch" if scratch else "encoders of clean data")
    reads = [[name.removeprefix("pretrain-") for name in encoders_of(model.setting("fusion"))] for model in models]
    levels = (0.0, *parse_levels(settings.noise))
    return [
        _plan_cell(work, runtime, cell, settings.task, inputs["preprocess"], models[cell.model])
        for cell in corruption_cells.cells(curves, levels, reads)
    ]


def _plan_cell(work: Work, runtime: Runtime, cell: Cell, task: str, preprocess: Artifact, model: Artifact) -> _Planned:
    training = _plan_training(work, runtime, cell, model) if cell.trained == "noisy" else None
    values = {"task": task, **{name: getattr(cell, name) for name in ("corruption", "level", "kind", "modality")}}
    sourced = {name: {"value": value, "source": "robustness"} for name, value in values.items()}
    inputs = {"preprocess": preprocess, "fuse": _stub(work, training) if training else model}
    # One line of progress counts cells: a cell that tells of itself would begin a new one each time.
    quiet = replace(runtime, progress=lambda label, done, total: None)
    return _Planned(pipeline.plan(STAGES["cell"], sourced, inputs, {}, quiet), training)


def _plan_training(work: Work, runtime: Runtime, cell: Cell, model: Artifact) -> Plan:
    """The training of a model like this one, with its seed and encoders, on a cell's noise."""
    noise = {"train_noise": cell.level, "noise_kind": cell.kind, "noise_modality": cell.modality}
    sourced = {**model.manifest["settings"], **{n: {"value": v, "source": "robustness"} for n, v in noise.items()}}
    inputs = {name: work.find(name, id) for name, id in model.manifest["inputs"].items()}
    return pipeline.plan(STAGES["fuse"], sourced, inputs, {}, replace(runtime, seed=model.manifest["seed"]))


def _merge(runtime: Runtime, sourced: Sourced, inputs: Mapping[str, Any], cells: Sequence[Artifact]) -> Plan:
    return pipeline.plan(STAGES["robustness"], sourced, {**inputs, "cell": list(cells)}, {}, runtime)


def _stub(work: Work, plan: Plan) -> Artifact:
    """Stands for an artifact that may not be there yet: its id is known before it is made."""
    return Artifact(plan.stage.name, plan.id, work.path(plan.stage.name, plan.id), {})


def _make(work: Work, missing: Sequence[_Planned], runtime: Runtime, *, force: bool) -> list[_Planned]:
    """Make cells; those that another job is at work on are left to it, and returned."""
    waiting = []
    for number, planned in enumerate(missing, 1):
        try:
            _execute(work, planned, force=force)
        except LockedError:
            waiting.append(planned)
        runtime.progress("cells of the sweep", number, len(missing))
    return waiting


def _execute(work: Work, planned: _Planned, *, force: bool) -> Artifact:
    plan = planned.cell
    if planned.training and (force or not work.get("cell", plan.id)):
        model = pipeline.execute(work, planned.training)
        plan = replace(plan, inputs={**plan.inputs, "fuse": model})
    return pipeline.execute(work, plan, force=force)
