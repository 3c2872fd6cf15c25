"""Running one stage: identity, up-to-date check, lock, draft, publication.

This is the only caller of the stage modules, and the only place where their failures become one clear error.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from fusionctl import distributed, staging
from fusionctl.errors import InputError, UsageError
from fusionctl.failures import one_error
from fusionctl.fingerprint import stamp
from fusionctl.manifest import content
from fusionctl.plan import Plan, plan, raw_identity, staleness, why
from fusionctl.settings import Runtime
from fusionctl.stopping import leave_on_signal
from fusionctl.workdir import QUICK_BYTES, Artifact, Draft, Work, writable

__all__ = ["Plan", "execute", "execute_shard", "plan", "staleness", "why"]

log = logging.getLogger("fusionctl")

SPENT = "spent.json"  # in the draft of a stopped run: how many seconds it took


def execute(work: Work, plan: Plan, *, force: bool = False, dry_run: bool = False) -> Artifact:
    """Run a stage unless its artifact is there already.

    Of several processes that train together (see `distributed`) the first does all of this, the others only train.

    Returns:
        The artifact, new or old; on a dry run, one that stands for it and has an empty manifest.

    Raises:
        FusionctlError: with one clear message; nothing half-written stays visible.
    """
    name, where = plan.stage.name, distributed.place()
    if where.size > 1 and not plan.stage.trains:
        raise UsageError(
            f"{name} does not train, so {where.size} processes cannot share it",
            hint=f"run fusionctl {name} in one process; torchrun or srun is for pretrain-ehr, pretrain-cxr and fuse",
        )
    existing, say = work.get(name, plan.id), _say(plan)
    if existing and not force:
        say("%s: up to date (%s)", name, plan.id)
        work.sweep_lock(name, plan.id)
        return existing.verify(largest=QUICK_BYTES)
    reason = "--force" if existing else why(work, plan)
    if dry_run:
        log.info("%s: would run (%s): %s", name, plan.id, reason)
        return Artifact(name, plan.id, work.path(name, plan.id), {})
    if not where.leads:
        return _join(work, plan, where)
    with one_error(plan.stage.name, plan.roots), _leave_on_signal(plan, where):
        writable(work.root)
        with work.lock(name, plan.id):
            existing = work.get(name, plan.id)
            if existing and not force:
                say("%s: up to date (%s): another run has just made it", name, plan.id)
                return existing
            work.check_no_shard(name, plan.id)
            say("%s: running (%s): %s", name, plan.id, reason)
            return _run(work, plan, resume=plan.stage.keeps_draft and not force)


def execute_shard(work: Work, plan: Plan, shard: tuple[int, int], *, dry_run: bool = False) -> None:
    """Do one of several shares of a stage's work, beside other jobs; the stage itself then finishes and publishes.

    Args:
        work: the work directory.
        plan: of the whole stage.
        shard: number of the share, from 1, and how many there are.
        dry_run: say what would run, and run nothing.
    """
    name, (i, n) = plan.stage.name, shard
    if work.get(name, plan.id):
        log.info("%s: up to date (%s)", name, plan.id)
        return
    if dry_run:
        log.info("%s: would run share %d of %d (%s): %s", name, i, n, plan.id, why(work, plan))
        return
    with one_error(plan.stage.name, plan.roots), _leave_on_signal(plan, distributed.place()):
        writable(work.root)
        with work.lock(name, f"{plan.id}.shard-{i}-of-{n}"):
            work.check_free(name, plan.id)  # the run that finishes asks for the shares after it has its own lock
            log.info("%s: running share %d of %d (%s)", name, i, n, plan.id)
            _verify(plan)
            _call(plan, work.draft(name, plan.id, resume=True), shard)
    log.info("%s: share %d of %d done; after all shares run: fusionctl %s", name, i, n, name)


def _say(plan: Plan) -> Callable[..., None]:
    """How a run is logged: of a hidden stage, which runs many times, as a detail."""
    return log.debug if plan.stage.hidden else log.info


def _leave_on_signal(plan: Plan, where: distributed.Place) -> AbstractContextManager[None]:
    """Asked to end, a stage goes in order, wherever it is; several processes cannot: one would wait for another."""
    if where.size > 1:
        return nullcontext()
    kept = "what was done is kept and the same command goes on from it" if plan.stage.keeps_draft else ""
    return leave_on_signal(
        f"{plan.stage.name}: stopped by a signal", hint=kept or "the same command starts this stage again"
    )


def _verify(plan: Plan) -> None:
    """Verify all inputs; where the process keeps what it has opened, each once: a data set may be tens of GB."""
    kept = {} if plan.runtime.kept is None else plan.runtime.kept
    verified = kept.setdefault("verified", set())
    for entry in plan.inputs.values():
        for artifact in entry if isinstance(entry, list) else [entry]:
            if artifact is None or artifact.path in verified:
                continue
            if not staging.applies(artifact, plan.runtime.stage_to):  # its copy is compared
                artifact.verify()
            verified.add(artifact.path)


def _run(work: Work, plan: Plan, *, resume: bool) -> Artifact:
    _verify(plan)
    plan = replace(plan, runtime=_runtime(plan))
    draft = work.draft(plan.stage.name, plan.id, resume=resume)
    started = time.perf_counter() - _spent(draft)
    try:
        with distributed.joined(distributed.place(), device=plan.runtime.device):
            _call(plan, draft)
        _check_unchanged(plan, draft)
        manifest = content(plan, draft, time.perf_counter() - started)
        artifact = work.publish(draft, manifest)
    except BaseException:
        # A checkpoint or a decoded film is not thrown away.
        if not plan.stage.keeps_draft or not (draft.path.is_dir() and any(draft.path.iterdir())):
            shutil.rmtree(draft.path, ignore_errors=True)
        else:
            with suppress(OSError):  # the disk may be full
                draft.write_json(SPENT, time.perf_counter() - started)
        raise
    _say(plan)("%s: done in %.1f s -> %s", plan.stage.name, manifest["duration_s"], artifact.path)
    return artifact


def _spent(draft: Draft) -> float:
    """Seconds that earlier attempts took, whose draft this one goes on from; of killed ones nothing is known."""
    path = draft.file(SPENT)
    try:
        return max(0.0, float(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return 0.0
    finally:
        path.unlink(missing_ok=True)


def _join(work: Work, plan: Plan, where: distributed.Place) -> Artifact:
    """Train with the first process, which alone writes; what this one leaves in its own folder is thrown away."""
    plan = replace(plan, runtime=_runtime(plan))
    with one_error(plan.stage.name, plan.roots), ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="fusionctl-"))
        opened.enter_context(distributed.joined(where, device=plan.runtime.device))
        _call(plan, Draft(Path(folder)))
    return Artifact(plan.stage.name, plan.id, work.path(plan.stage.name, plan.id), {})


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
    return replace(plan.runtime, device=distributed.device_of(distributed.place(), device))


def _call(plan: Plan, draft: Draft, shard: tuple[int, int] | None = None) -> None:
    module = importlib.import_module(plan.stage.module)
    roots = {name: plan.roots.get(name) for name in plan.stage.roots}
    values = plan.stage.values(plan.settings)
    inputs = {**staging.staged(plan.inputs, plan.runtime.stage_to), **roots}
    if borrowed := plan.stage.borrowed(plan.settings):
        inputs["settings"] = borrowed
    if shard:
        module.run_shard(draft, values, inputs, shard, runtime=plan.runtime)
    else:
        module.run(draft, values, inputs, runtime=plan.runtime)


def _check_unchanged(plan: Plan, draft: Draft) -> None:
    """Check that what was read is still what the artifact's id was computed from.

    Raises:
        InputError: a file has changed. The draft is thrown away, checkpoints too: they rest on the changed file.
    """
    changed = [path for path, before in plan.stamps.items() if before != stamp(path)]
    for name, before in plan.raw.items() if not changed else ():
        after = raw_identity(name, plan.roots[name])["files"]
        changed += [plan.roots[name] / f for f in after if before["files"].get(f) != after[f]]
    if changed:
        shutil.rmtree(draft.path, ignore_errors=True)
        raise InputError(
            f"{changed[0]} changed while {plan.stage.name} ran; its result is not kept",
            hint="wait until the copy or download has ended, then run the same command again",
        )
