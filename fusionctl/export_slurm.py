"""Writes the Slurm scripts of the whole pipeline for one cluster and one user, from the templates in `slurm/`.

settings.sh      paths, preset, task, models: read by every job, so a change there holds for all
steps.sh         how a job starts fusionctl, alone or in several processes, and asks to be started again
NN-STAGE.sbatch  one job a stage; submit.sh submits them all, each after those whose results it reads
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from fusionctl.common_checks import check_common, check_line
from fusionctl.config import collect_common, everywhere, read_config, variable_of
from fusionctl.errors import FusionctlError, UsageError
from fusionctl.model_name import fusion_of
from fusionctl.options import COMMON_DEFAULTS
from fusionctl.session import Session
from fusionctl.settings import Runtime, check, option
from fusionctl.stages import STAGES, WITHOUT_WEIGHTS, encoders_of
from fusionctl.workdir import Work

_FIXED = ("steps.sh",)
_PATHS = ("work_dir", "mimic_root", "cxr_root", "config")
_WORD = re.compile(r"[A-Za-z0-9_.,:@/+=%\[\]-]+")
_GPUS = re.compile(r"([A-Za-z0-9_.-]+:)?([1-9]\d?)")
# A path whose variables the node fills in: $NAME, ${NAME} or ${NAME:-what else}.
_VARIABLE = r"\$[A-Za-z_][A-Za-z0-9_]*+|\$\{[A-Za-z_][A-Za-z0-9_]*\}"
_ELSE = rf"\$\{{[A-Za-z_][A-Za-z0-9_]*:-(?:[A-Za-z0-9_./-]|{_VARIABLE})+\}}"
_NODE_PATH = re.compile(rf"(?:[A-Za-z0-9_./:-]|{_VARIABLE}|{_ELSE})+")
_TIME = re.compile(r"[0-9]{1,6}(:[0-9]{1,2}){0,2}|[0-9]{1,4}-[0-9]{1,2}(:[0-9]{1,2}){0,2}")
_MEMORY = re.compile(r"[0-9]{1,9}[KMGTkmgt]?")
_UNSET = "is not set on this node, and --stage-to asks for it"
_MOST_SHARES = 999_999  # that `--shard` takes


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a cluster wants to be told. Times are Slurm's, memory is a number with K, M, G or T (none: megabytes)."""

    partition: str = option("", "partition of the jobs without a GPU")
    gpu_partition: str = option("", "partition of the jobs with a GPU; none: the same")
    account: str = option("", "account that pays")
    activate: str = option("", "line of bash that makes fusionctl available, such as: source ~/venv/bin/activate")
    gpus: str = option("1", "GPUs a node for models with films: N, or TYPE:N")
    nodes: int = option(1, "nodes that train one model with films together", low=1)
    launcher: Literal["srun", "torchrun"] = option("srun", "what starts several processes")
    cpus: int = option(8, "processors a GPU, and of the jobs without one", low=1)
    mem: str = option("64G", "memory a node")
    cpu_time: str = option("06:00:00", "time limit of the jobs without a GPU")
    gpu_time: str = option("24:00:00", "time limit of the jobs with a GPU")
    film_jobs: int = option(16, "jobs that decode films", low=1, high=_MOST_SHARES)
    noise_jobs: int = option(8, "jobs of the robustness sweep", low=1, high=_MOST_SHARES)
    stage_to: str = option("", "folder on a node's own disk to copy the arrays to, such as '$TMPDIR'")
    sbatch: str = option("", "further options of sbatch for every job, such as '--qos=long --constraint=a100'")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the jobs shall do.

    Attributes:
        task: the outcome.
        models: fusions to train; empty: those of `fusionctl run`.
        noise: levels of the robustness sweep; None: as the settings say.
        common: common options as far as they were given, `mimic_root` among them.
        command: what wrote the scripts, for their first lines.
    """

    task: str
    models: Sequence[str]
    noise: str | None = None
    common: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


def export(out: Path, cluster: Cluster, run: Run) -> list[Path]:
    """Write the scripts.

    Returns:
        Their paths, in order.

    Raises:
        UsageError: a value that a script could not hold or that a job would refuse, or no MIMIC-IV folder.
        FusionctlError: the folder cannot be written.
    """
    _check(cluster)
    _check_lines(out, cluster, run)
    models = _models(run)
    names = _scripts(models, films=run.common.get("cxr_root") is not None)
    marks = _marks(cluster, run, models)
    written = []
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("settings.sh", *_FIXED, *names, "submit.sh"):
            text = resources.files("fusionctl").joinpath("slurm", name).read_text(encoding="utf-8")
            if name == "submit.sh":
                text = _only(text, names)
            path = out / name
            path.write_text(text if name in _FIXED else _filled(text, marks), encoding="utf-8")
            path.chmod(0o700 if name == "submit.sh" else 0o600)
            written.append(path)
    except OSError as error:
        raise FusionctlError(f"--out {error.filename}: {error.strerror}", hint="choose another --out DIR") from error
    return written


def _models(run: Run) -> list[str]:
    """The models to train, after the checks that the jobs' own commands would make."""
    if run.common.get("mimic_root") is None:
        raise UsageError("export-slurm needs --mimic-root", hint="give the folder that holds hosp/ and icu/")
    settings = {name: stage.settings for name, stage in STAGES.items() if not stage.hidden}
    config = read_config(run.common.get("config"), settings)
    common = collect_common(run.common, config, COMMON_DEFAULTS)
    check_common(common["seed"], common["jobs"], common["device"])
    flags = everywhere({}, settings, {"task": run.task, "noise": run.noise})
    roots = {"cxr_root": run.common.get("cxr_root"), "split_file": common["split_file"]}
    options = {"preset": common["preset"], "config": config, "flags": flags, "roots": roots}
    return Session(work=Work(common["work_dir"]), runtime=Runtime(), **options).check(dict.fromkeys(run.models))


def _check(cluster: Cluster) -> None:
    """Values end in lines of #SBATCH, which know no quotes."""
    check(cluster)
    for name in ("partition", "gpu_partition", "account"):
        value = getattr(cluster, name)
        if value and not _WORD.fullmatch(value):
            raise UsageError(f"{_flag(name)} must be one word of letters, digits and _.,:@/+=%[]-; got {value!r}")
    for name in ("cpu_time", "gpu_time"):
        if not _TIME.fullmatch(value := getattr(cluster, name)):
            rule = "must be minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S"
            raise UsageError(f"{_flag(name)} {rule}; got {value!r}", hint="for example 24:00:00 or 2-12:00:00")
    if not _MEMORY.fullmatch(cluster.mem):
        rule = "--mem must be a whole number with K, M, G or T, or of megabytes"
        raise UsageError(f"{rule}; got {cluster.mem!r}", hint="for example 64G")
    if not _GPUS.fullmatch(cluster.gpus):
        raise UsageError(f"--gpus must be N or TYPE:N, N from 1 to 99; got {cluster.gpus!r}")
    if cluster.stage_to and not _NODE_PATH.fullmatch(cluster.stage_to):
        raise UsageError(
            f"--stage-to must be a path of letters, digits, _./:- and variables; got {cluster.stage_to!r}",
            hint="variables are $NAME, ${NAME} or ${NAME:-/another/path}",
        )
    for word in cluster.sbatch.split():
        if not (word.startswith("--") and _WORD.fullmatch(word)):
            raise UsageError(f"--sbatch takes words like --qos=long; got {word!r}")
    if "\n" in cluster.activate:
        raise UsageError("--activate must be one line", hint="put several into a file and give: source FILE")


def _check_lines(out: Path, cluster: Cluster, run: Run) -> None:
    """A line break in what a script quotes, or says in a comment, would let the rest run as commands."""
    values = {"out": out, **run.common, "task": run.task, "noise": run.noise, **asdict(cluster)}
    for name, value in values.items():
        check_line(_flag(name), str(value))
    check_line("--models", ",".join(run.models))
    check_line("the command", run.command)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _scripts(models: Sequence[str], *, films: bool) -> list[str]:
    """Names of the jobs' scripts that these models need, in order."""
    fusions = [fusion_of(model) for model in models]
    needed = {stage for fusion in fusions for stage in encoders_of(fusion)}
    wanted = {
        "10-extract.sbatch": True,
        "20-films.sbatch": films,
        "30-preprocess.sbatch": True,
        "40-pretrain-ehr.sbatch": "pretrain-ehr" in needed,
        "50-pretrain-cxr.sbatch": "pretrain-cxr" in needed,
        "60-fuse.sbatch": True,
        "70-robustness.sbatch": any(fusion not in WITHOUT_WEIGHTS for fusion in fusions),
        "80-report.sbatch": True,
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def _only(submit: str, names: Iterable[str]) -> str:
    """submit.sh without the lines of jobs that are not written; their variables stay empty."""
    lines = submit.splitlines(keepends=True)
    return "".join(line for line in lines if not (used := re.search(r"\d\d-\S+\.sbatch", line)) or used[0] in names)


def _filled(text: str, marks: Mapping[str, str]) -> str:
    """A template with its @@marks@@ replaced; a line that is one empty mark goes."""
    lines = []
    for line in text.splitlines():
        filled = re.sub(r"@@(\w+)@@", lambda found: marks[found[1]], line)
        if filled.strip() or not line.strip():
            lines.append(filled)
    return "\n".join(lines) + "\n"


def _marks(cluster: Cluster, run: Run, models: Sequence[str]) -> dict[str, str]:
    per_node = int(cluster.gpus.rpartition(":")[2])
    account = [f"#SBATCH --account={cluster.account}"] if cluster.account else []
    further = [*account, *(f"#SBATCH {word}" for word in cluster.sbatch.split())]
    gpu_partition = cluster.gpu_partition or cluster.partition
    kind = cluster.gpus.rpartition(":")[0]
    return {
        "command": run.command,
        "activate": f"# shellcheck source=/dev/null\n{cluster.activate}" if cluster.activate else "",
        "exports": "\n".join(_exports(cluster, run, models)),
        "task": run.task,
        "film_task": run.task if run.task == "phenotyping" else "radiology",
        "launcher": cluster.launcher,
        # srun's processes get the signal from Slurm; torchrun's get it through the script, which must know of it.
        "signal": "B:USR1@120" if cluster.launcher == "torchrun" else "USR1@120",
        "cpu": "\n".join([*_partition(cluster.partition), *further, f"#SBATCH --time={cluster.cpu_time}"]),
        "gpu": "\n".join([*_partition(gpu_partition), *further, f"#SBATCH --time={cluster.gpu_time}"]),
        "one_gpu": f"{kind}:1" if kind else "1",
        "gpus": cluster.gpus,
        "gpus_per_node": str(per_node),
        "nodes": str(cluster.nodes),
        "cpus": str(cluster.cpus),
        "mem": cluster.mem,
        "film_jobs": str(cluster.film_jobs),
        "noise_jobs": str(cluster.noise_jobs),
        "n_models": str(len(models)),
    }


def _partition(name: str) -> list[str]:
    return [f"#SBATCH --partition={name}"] if name else []


def _exports(cluster: Cluster, run: Run, models: Sequence[str]) -> Iterable[str]:
    """Lines of settings.sh; paths absolute, as jobs run in another folder."""
    values = {"work_dir": "work", **{name: value for name, value in run.common.items() if value is not None}}
    for name, value in values.items():
        text = str(Path(value).absolute()) if name in _PATHS else str(value)
        yield f"export {variable_of(name)}={shlex.quote(text)}"
    if cluster.stage_to:
        # Where a variable has no value the path would be another, or none, and the shared disk would be read.
        needed = re.sub(r"\$(\w+)|\$\{(\w+)\}", rf"${{\1\2:?{_UNSET}}}", cluster.stage_to)
        yield f'export {variable_of("stage_to")}="{needed}"'
    if run.noise:
        yield f"export {variable_of('robustness', 'noise')}={shlex.quote(run.noise)}"
    networks = [model for model in models if fusion_of(model) not in WITHOUT_WEIGHTS]
    for name, names in {"MODELS": models, "NETWORKS": networks}.items():
        yield f"export {name}={shlex.quote(','.join(names))}"
