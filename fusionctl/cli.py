"""The command line: one thin command per stage. Options are made from the stages' settings; nothing is decided here."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fusionctl import __version__, cli_cluster, console, distributed
from fusionctl.catalogue import Kind, listed
from fusionctl.common_checks import check_common, check_roots, check_work_dir
from fusionctl.config import collect_common, everywhere, parse_assignments, read_config
from fusionctl.errors import StaleError, UsageError
from fusionctl.inventory import removable, status_rows
from fusionctl.options import (
    COMMON_DEFAULTS,
    COMMON_HELP,
    ROOT_HELP,
    command_with,
    common_parameters,
    parameter,
    parse_shard,
    pin_name,
    pin_parameters,
    setting_parameters,
)
from fusionctl.session import RUN_MODELS, Session
from fusionctl.settings import Runtime, Task
from fusionctl.stages import STAGES, Stage
from fusionctl.workdir import Artifact, Work

app = typer.Typer(
    name="fusionctl",
    help="From raw MIMIC-IV and MIMIC-CXR files to multimodal clinical predictions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with locals may hold rows of patients
)

DEMO_STAYS = 1500  # enough for a network to learn something in a few minutes on two cores
SEEDS = parameter("seeds", int, "train this many times, with seeds from --seed on (default: 1)")
SETTINGS = {name: stage.settings for name, stage in STAGES.items() if not stage.hidden}


def _session(values: dict[str, Any], flags: dict[str, dict[str, Any]]) -> Session:
    config = read_config(values["config"], SETTINGS)
    common = collect_common(values, config, COMMON_DEFAULTS)
    roots = {name: common[name] for name in ROOT_HELP}
    check_common(common["seed"], common["jobs"], common["device"])
    check_roots(roots)
    check_work_dir(common["work_dir"])
    progress = console.Progress(quiet=values["quiet"] or not distributed.place().leads)
    own = {name: common[name] for name in ("seed", "jobs", "device", "stage_to")}
    runtime = Runtime(**own, progress=progress)
    work = Work(common["work_dir"])
    options = {"force": values["force"], "dry_run": values["dry_run"], "preset": common["preset"]}
    return Session(work=work, runtime=runtime, config=config, flags=flags, roots=roots, **options)


def _show(artifact: Artifact, values: dict[str, Any]) -> None:
    if not distributed.place().leads:
        return
    if values["json"]:
        console.print_json(
            {"stage": artifact.stage, "id": artifact.id, "path": str(artifact.path), **artifact.manifest}
        )
    elif not values["dry_run"]:
        _print_results(artifact)


def _print_results(artifact: Artifact) -> None:
    """The tables that a stage leaves for the terminal, then the artifact's path."""
    path = artifact.file("tables.json")
    for table in artifact.json("tables.json") if path.exists() else []:
        console.print_table(table["title"], table["header"], table["rows"])
    page = artifact.file("report.html")
    console.write(f"{page if page.exists() else artifact.path}\n")


def _add_stage(stage: Stage) -> None:
    # preprocess runs extract and films where they are missing, so it takes their inputs and the films' settings too.
    settings = [stage, STAGES["films"]] if stage.name == "preprocess" else [stage]
    roots = stage.roots if stage.name != "preprocess" else ("mimic_root", "cxr_root", *stage.roots)

    def body(values: dict[str, Any]) -> None:
        flags = {s.name: {f.name: values[f.name] for f in dataclasses.fields(s.settings)} for s in settings}
        shard = parse_shard(values["shard"]) if values.get("shard") is not None else None
        pins = {n: values[pin_name(n)] for n in STAGES if values.get(pin_name(n))}
        session = _session(values, flags)
        for seed in _seeds(session, values.get("seeds")):
            alone = dataclasses.replace(session, runtime=dataclasses.replace(session.runtime, seed=seed))
            made = alone.run_stage(stage.name, pins=pins, models=_split(values.get("models")), shard=shard)
            if made:
                _show(made, values)

    shards = [parameter("shard", str, "do share I of N only (I/N), beside other jobs")] if stage.shards else []
    shards += [SEEDS] if stage.trains else []
    parameters = [*(p for s in settings for p in setting_parameters(s)), *shards]
    parameters += [*pin_parameters(stage), *common_parameters(roots, networks=stage.networks)]
    app.command(stage.name, help=stage.help)(command_with(body, parameters))


def _seeds(session: Session, n: int | None) -> range:
    """The seeds of `--seeds N`, from the run's own on."""
    if n is not None and n < 1:
        raise UsageError(f"--seeds must be >= 1; got {n}")
    return range(session.runtime.seed, session.runtime.seed + (n or 1))


def _split(text: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _run(values: dict[str, Any]) -> None:
    given = {name: values.get(name) for name in ("task", "noise")}
    flags = everywhere(parse_assignments(values["set"] or [], SETTINGS), SETTINGS, given)
    session = _session(values, flags)
    _show(session.run_all(_split(values["models"]), seeds=len(_seeds(session, values["seeds"]))), values)


def _demo(values: dict[str, Any]) -> None:
    from fusionctl.data import synth

    folder = values["work_dir"] or Path("demo")
    stays, seed = values["stays"] or DEMO_STAYS, values["seed"] or 0
    check_work_dir(folder)
    raw = folder / f"raw-{stays}-{seed}"
    if values["dry_run"] and not raw.is_dir():
        console.write(f"would write {stays} synthetic stays to {raw}, then run every stage on them\n")
        return
    synth.ensure_tree(raw, stays=stays, layout="v2", seed=seed)
    roots = {"mimic_root": raw / "mimic-iv", "cxr_root": raw / "mimic-cxr-jpg"}
    work = {"work_dir": folder / "work", "preset": values["preset"] or "demo"}
    _run({**values, **roots, **work})


def _synth(values: dict[str, Any]) -> None:
    from fusionctl.data import synth

    if values["out"] is None:
        raise UsageError("synth needs --out DIR")
    if values["cxr_only"]:
        if values["mimic_root"] is None:
            raise UsageError("--cxr-only makes films for existing stays: it needs --mimic-root DIR")
        synth.write_films(values["out"], mimic_root=values["mimic_root"], seed=values["seed"] or 0)
    else:
        if values["mimic_root"] is not None:  # it may be set for the whole shell
            console.log.warning("--mimic-root is not read: with --cxr-only films are made for its stays")
        stays = values["stays"] if values["stays"] is not None else 600
        synth.write_tree(values["out"], stays=stays, layout=values["layout"] or "v2", seed=values["seed"] or 0)
    console.write(f"{values['out']}\n")


def _status(values: dict[str, Any]) -> None:
    work = Work(_session(values, {}).work.root)
    rows = status_rows(work)
    if values["json"]:
        console.print_json(rows)
    else:
        cells = [
            [r["stage"], r["id"], r["created"], r["what"], f"{r['bytes'] / 1e6:.1f}", r["stale"] or "current"]
            for r in rows
        ]
        console.print_table(f"{work.root}", ["stage", "id", "made", "what", "MB", "state"], cells)
    stale = [r for r in rows if r["stale"]]
    if values["check"] and stale:
        raise StaleError(f"{len(stale)} artifacts are stale, the first: {stale[0]['stage']}/{stale[0]['id']}")


def _clean(values: dict[str, Any]) -> None:
    from fusionctl.checkpoint import CHECKPOINT

    work = _session(values, {}).work
    paths = removable(work)
    for path in paths:
        console.write(f"{path}\n")
    if stopped := sum((path / CHECKPOINT).exists() for path in paths):
        console.log.warning("%d with the checkpoint of a stopped training, which begins anew without it", stopped)
    if values["yes"]:
        for path in paths:
            if not work.remove(path):
                console.log.warning("%s is kept: a run is at work on it", path)
    elif paths:
        console.log.info("nothing removed yet: the above is old or left over; fusionctl clean --yes removes it")


def _list(values: dict[str, Any]) -> None:
    rows = listed(values["kind"])
    if values["json"]:
        console.print_json(rows)
    else:
        console.print_table(values["kind"], list(rows[0]), [list(row.values()) for row in rows])


def _version(show: bool) -> None:
    if show:
        sys.stdout.write(f"fusionctl {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Options before the command."""


def _add_commands() -> None:
    for name in SETTINGS:
        _add_stage(STAGES[name])
    both = tuple(ROOT_HELP)
    run = [
        parameter("task", Task, "the outcome to predict (default: mortality)"),
        parameter(
            "models",
            str,
            f"comma-separated FUSION or FUSION+LOSS (default: {','.join(RUN_MODELS)}; see: fusionctl list)",
        ),
        parameter("noise", str, "noise levels of the robustness sweep (default: 0.1:0.6)"),
        SEEDS,
        parameter("set", list[str], "STAGE.NAME=VALUE: any setting of any stage; may be repeated"),
    ]
    stays = parameter("stays", int, "number of synthetic ICU stays (default: 600)")
    demo_stays = parameter("stays", int, f"number of synthetic ICU stays (default: {DEMO_STAYS})")
    app.command("run", help="Run all stages in order, from raw files to the report.")(
        command_with(_run, [*run, *common_parameters(both, networks=True)])
    )
    app.command("demo", help="Run everything on synthetic data, on a CPU, in minutes.")(
        command_with(_demo, [demo_stays, *run, *common_parameters(())])
    )
    synth = [
        parameter("out", Path, "empty or new folder to write into"),
        stays,
        parameter("layout", Literal["v1", "v2", "v3"], "MIMIC-IV layout to write (default: v2)"),
        parameter("cxr_only", bool, "make films for the stays of an existing MIMIC-IV tree", "--cxr-only"),
        parameter("mimic_root", Path, "that tree"),
        parameter("seed", int, "same seed, same bytes (default: 0)"),
    ]
    app.command("synth", help="Write synthetic MIMIC-IV and MIMIC-CXR-JPG trees.")(command_with(_synth, synth))
    kind = inspect.Parameter(
        "kind", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Kind, typer.Argument(help="what to list")]
    )
    as_json = parameter("json", bool, COMMON_HELP["json"][1])
    app.command("list", help="Name the fusions, losses, encoders or tasks, each with one sentence.")(
        command_with(_list, [kind, as_json])
    )
    check = parameter("check", bool, "exit with 4 when an artifact is stale", "--check")
    app.command("status", help="List the artifacts, and which of them are stale.")(
        command_with(_status, [check, *common_parameters(())])
    )
    yes = parameter("yes", bool, "really remove", "--yes")
    app.command("clean", help="Remove old artifacts and what killed runs left.")(
        command_with(_clean, [yes, *common_parameters(())])
    )


_add_commands()
cli_cluster.add_commands(app)


def main() -> None:
    """Entry point of the `fusionctl` program."""
    console.open_streams()
    try:
        app()
    except OSError as error:  # from writing help or the version: what a command raises ends in its own frame
        console.drop_output()
        sys.stderr.write(f"error: standard output: {error.strerror}\n")
        sys.exit(1)
