"""The Slurm scripts: what is written, clean under shellcheck, and run for real by a stand-in for Slurm."""

import functools
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fusionctl.cli import app
from fusionctl.settings import Task
from fusionctl.stages import STAGES
from fusionctl.workdir import Work

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DATA = ("--mimic-root", "/data/mimic-iv-2.2", "--cxr-root", "/data/mimic-cxr-jpg-2.0.0")
SHELLCHECK = shutil.which("shellcheck", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def exported(out, *arguments):
    result = call("export-slurm", "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    assert sorted(map(Path, result.stdout.splitlines())) == sorted(out.glob("*.*"))
    return {path.name: path.read_text() for path in out.glob("*.*")}


def scripts():
    """Every script that calls fusionctl: the examples and the templates of the jobs."""
    return [*sorted(EXAMPLES.rglob("*.sh")), *sorted((ROOT / "fusionctl" / "slurm").glob("*.sbatch"))]


def used(text):
    """`COMMAND --flag` of each flag in a script; an array `flags+=(...)` belongs to the commands that are given it."""
    words = re.sub(r"#.*", "", text.replace("\\\n", " "))
    found = set()
    for line in words.splitlines():
        call = re.search(r"\b(?:alone|together|made|fusionctl) ([a-z][a-z-]+)\b(.*)", line)
        if call:
            found |= {f"{call[1]} {flag}" for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", call[2])}
    return found


@functools.cache
def known():
    return {
        f"{name} {flag}"
        for name, command in get_command(app).commands.items()
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_every_flag_in_the_scripts_is_one(path):
    assert used(path.read_text()) <= known()


def test_flags_are_found_in_scripts():
    assert used('alone films --shard "$I/2"\n# fusionctl no --no\nid=$(made fuse \\\n --loss x)') == {
        "films --shard",
        "fuse --loss",
    }
    assert {f"run {flag}" for flag in ("--task", "--set")} <= used((EXAMPLES / "run_open.sh").read_text())


def test_the_examples_are_what_the_command_writes(tmp_path, monkeypatch):
    folder = EXAMPLES / "slurm"
    (command,) = re.findall(r"^# Written by: (fusionctl export-slurm .*)$", (folder / "settings.sh").read_text(), re.M)
    monkeypatch.chdir(tmp_path)
    result = call(*shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    made = {path.name: path.read_text() for path in (tmp_path / "examples" / "slurm").glob("*.*")}
    assert made == {path.name: path.read_text() for path in folder.glob("*.*")}, f"run again: {command}"


def test_what_the_user_says_is_in_the_scripts(tmp_path):
    place = "it's here"
    flags = ["--partition", "cpu", "--gpu-partition", "gpu", "--account", "me", "--gpus", "a100:4", "--nodes", 2]
    flags += ["--cpu-time", "1-00:00:00", "--gpu-time", "02:00:00", "--cpus", 6, "--mem", "100G", "--film-jobs", 3]
    flags += ["--activate", 'source "$HOME/a b/activate"', "--stage-to", "$TMPDIR", "--sbatch=--qos=long --exclusive"]
    flags += ["--task", "phenotyping", "--preset", "small", "--work-dir", tmp_path / place, "--noise-jobs", 5]
    flags += ["--models", "attention,attention+uncertainty,trees", "--noise", "0.2,0.4", "--seed", 3]
    made = exported(tmp_path / "jobs", *DATA, *flags)
    training, cpu = made["50-pretrain-cxr.sbatch"], made["10-extract.sbatch"]
    for line in ("--partition=gpu", "--account=me", "--qos=long", "--exclusive", "--time=02:00:00", "--nodes=2"):
        assert f"#SBATCH {line}\n" in training
    for line in ("--ntasks-per-node=4", "--gres=gpu:a100:4", "--cpus-per-task=6", "--mem=100G", "--signal=USR1@120"):
        assert f"#SBATCH {line}\n" in training
    assert "#SBATCH --gres=gpu:a100:1\n" in made["40-pretrain-ehr.sbatch"]
    assert "#SBATCH --partition=cpu\n" in cpu and "#SBATCH --time=1-00:00:00\n" in cpu and "gres" not in cpu
    assert "--array=1-3\n" in made["20-films.sbatch"] and 'ID/3"' in made["20-films.sbatch"]
    assert "--array=1-5\n" in made["70-robustness.sbatch"] and 'ID/5"' in made["70-robustness.sbatch"]
    assert "--array=1-3\n" in made["60-fuse.sbatch"] and "--task phenotyping" in training
    settings = made["settings.sh"]
    assert 'source "$HOME/a b/activate"\n' in settings and 'export FUSIONCTL_STAGE_TO="${TMPDIR:?' in settings
    for name, value in {"PRESET": "small", "SEED": "3", "ROBUSTNESS_NOISE": "0.2,0.4"}.items():
        assert f"export FUSIONCTL_{name}={value}\n" in settings
    assert "export TASK=phenotyping\n" in settings
    assert f"export FUSIONCTL_WORK_DIR={shlex.quote(str(tmp_path / place))}\n" in settings
    assert "export NETWORKS=attention,attention+uncertainty\n" in settings
    assert all("--requeue\n" in text for name, text in made.items() if name.endswith(".sbatch"))
    assert not any("@@" in text for text in made.values())
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "jobs").iterdir()}
    assert modes["submit.sh"] == 0o700 == modes["logs"] and not any(mode & 0o077 for mode in modes.values())


def test_only_the_jobs_that_the_models_need(tmp_path):
    made = exported(tmp_path / "a", *DATA[:2], "--models", "ehr,trees")
    assert "20-films.sbatch" not in made and "50-pretrain-cxr.sbatch" not in made
    assert "20-films" not in made["submit.sh"] and "40-pretrain-ehr" in made["submit.sh"]
    made = exported(tmp_path / "b", *DATA, "--models", "trees")
    assert set(made) >= {"20-films.sbatch", "60-fuse.sbatch"} and "70-robustness.sbatch" not in made
    assert "signal=B:USR1@120" in exported(tmp_path / "c", *DATA, "--launcher", "torchrun")["60-fuse.sbatch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --mimic-root"),
        ([*DATA, "--partition", "a b"], "--partition must be one word"),
        ([*DATA, "--account", "x\n#SBATCH --x"], "--account must be one word"),
        ([*DATA, "--gpus", "0"], "--gpus must be N or TYPE:N"),
        ([*DATA, "--gpus", "a100:"], "--gpus must be N or TYPE:N"),
        ([*DATA, "--nodes", 0], "--nodes must be a number from 1"),
        ([*DATA, "--film-jobs", -1], "--film-jobs must be a number from 1"),
        ([*DATA, "--stage-to", "$(rm -r x)"], "--stage-to must be a path"),
        ([*DATA, "--sbatch=--qos=long; rm"], "--sbatch takes words"),
        ([*DATA, "--activate", "a\nb"], "--activate must be one line"),
        ([*DATA, "--models", "guess"], "'guess' is not a model"),
        ([*DATA[:2], "--models", "attention"], "reads films"),
        ([*DATA, "--launcher", "mpirun"], "mpirun"),
        ([*DATA, "--activate", "a\rb"], "--activate must not hold line breaks"),
        ([*DATA, "--work-dir", "a\ntouch PWNED #"], "--work-dir must not hold line breaks"),
        ([*DATA[:2], "--cxr-root", "a\nb"], "--cxr-root must not hold line breaks"),
        (["--mimic-root", "a\x1bb"], "--mimic-root must not hold line breaks"),
        ([*DATA, "--config", "a\nb"], "--config must not hold line breaks"),
        ([*DATA, "--noise", "0.1\n"], "--noise must not hold line breaks"),
        ([*DATA, "--models", "ehr\ntouch PWNED"], "--models must not hold line breaks"),
        ([*DATA, "--out", "a\nb"], "--out must not hold line breaks"),
        ([*DATA, "--work-dir", "w\udcff"], "--work-dir must be UTF-8; got 'w\\udcff'"),
        ([*DATA, "--work-dir", ""], "--work-dir is empty"),
        ([*DATA, "--stage-to", ""], "--stage-to is empty"),
    ],
)
def test_what_a_script_cannot_hold_is_refused(tmp_path, arguments, message):
    result = call("export-slurm", "--out", tmp_path / "jobs", *arguments)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise", "abc"], "--noise must be LOW:HIGH"),
        (["--noise", "0.6:0.1"], "--noise must be LOW:HIGH"),
        (["--preset", "nosuch"], "--preset must be one of"),
        (["--seed", "-4"], "--seed must be >= 0"),
        (["--config", "nowhere.toml"], "--config nowhere.toml: No such file"),
        (["--config", "wrong.toml"], "--lr must be a number from 0 up; got -1"),
        (["--config", "window.toml"], "--film-window must be FROM:TO"),
        (["--models", "ehr+nosuch"], "'nosuch' is not a loss"),
        (["--models", "trees+focal"], "trains no network"),
        *((["--mem", mem], "--mem must be a whole number") for mem in ("", "x", "64GG", "1.5G", "-1")),
        *(
            (["--cpu-time", time], "--cpu-time must be minutes")
            for time in ("", "x", "1:2:3:4", "1-", "1-2:3:4:5", "²")
        ),
        (["--gpu-time", "1 day"], "--gpu-time must be minutes"),
        (["--film-jobs", 1_000_000], "--film-jobs must be a number from 1 to 999999"),
        (["--noise-jobs", 1_000_000], "--noise-jobs must be a number from 1 to 999999"),
        *((["--stage-to", path], "--stage-to must be a path") for path in ("$TMPDIR}", "${TMPDIR", "${}", "a$", "$1")),
        (["--stage-to", "$aaaaaaaa" * 20 + "!"], "--stage-to must be a path"),
    ],
)
def test_what_a_job_would_refuse_is_refused_before_it_waits(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text("[fuse]\nlr = -1")
    Path("window.toml").write_text('[preprocess]\nfilm_window = "5:1"')
    result = call("export-slurm", "--out", "jobs", *DATA, *arguments)
    assert result.exit_code == 2 and message in result.stderr, result.output
    assert not Path("jobs").exists()


def test_times_and_memory_as_slurm_takes_them(tmp_path):
    for i, time in enumerate(("90", "30:00", "100:00:00", "2-12", "2-12:30", "2-12:30:00")):
        made = exported(tmp_path / f"time-{i}", *DATA, "--cpu-time", time, "--gpu-time", time)
        assert f"#SBATCH --time={time}\n" in made["10-extract.sbatch"] and f"={time}\n" in made["60-fuse.sbatch"]
    for mem in ("0", "4000", "64G", "1T", "64g"):
        assert f"#SBATCH --mem={mem}\n" in exported(tmp_path / f"mem-{mem}", *DATA, "--mem", mem)["10-extract.sbatch"]


@pytest.mark.parametrize(
    ("path", "variables", "expected"),
    [
        ("/scratch/me", {}, "/scratch/me"),
        ("$DISK/x", {"DISK": "/d"}, "/d/x"),
        ("${DISK}_x", {"DISK": "/d"}, "/d_x"),
        ("${DISK:-/tmp}", {}, "/tmp"),
        ("${DISK:-$OTHER}/x", {"OTHER": "/o"}, "/o/x"),
        ("$DISK", {}, None),
        ("$DISK/x", {"DISK": ""}, None),
        ("/a/${DISK}", {}, None),
        ("${DISK:-$OTHER}", {}, None),
    ],
)
def test_a_node_without_the_variable_of_stage_to_ends_the_job(tmp_path, path, variables, expected):
    """An empty value would count as none, and training would read the shared disk without a word."""
    environment, journal = cluster(tmp_path, fusionctl='echo "reads from <$FUSIONCTL_STAGE_TO>"')
    exported(tmp_path / "jobs", *DATA, "--stage-to", path)
    submit(tmp_path / "jobs", environment | variables, "10-extract.sbatch")
    (log,) = (tmp_path / "jobs" / "logs").iterdir()
    if expected:
        assert f"reads from <{expected}>" in log.read_text()
    else:
        assert "is not set on this node, and --stage-to asks for it" in log.read_text()
        assert "reads from" not in log.read_text() and "ended with 0" not in journal.read_text()


def test_jobs_are_submitted_in_their_own_folder_whatever_cdpath_says(tmp_path):
    environment, journal = cluster(tmp_path, fusionctl="exit 0")
    exported(tmp_path / "jobs", *DATA[:2], "--models", "trees")
    (tmp_path / "elsewhere" / "jobs").mkdir(parents=True)
    environment["CDPATH"] = str(tmp_path / "elsewhere")
    done = subprocess.run(["bash", "jobs/submit.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "step of 1: fusionctl report" in journal.read_text()
    assert list((tmp_path / "elsewhere" / "jobs").iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    result = call("export-slurm", "--out", tmp_path / "file", *DATA)
    assert result.exit_code == 1 and f"--out {tmp_path / 'file'}" in result.stderr, result.output
    assert call("export-slurm", *DATA).exit_code == 2


STUB = """printf '%s\\n' "$*" >> "$STAND_IN/calls"
echo "table | of results"
page=
if [ "$1" = report ]; then page=/report.html; fi
echo "$WORK/$1/0123456789ab$page"
"""


@pytest.mark.parametrize(
    ("script", "arguments"),
    [("run_paper.sh", ["/raw/mimic iv", "/raw/cxr", "{work}"]), ("run_small.sh", ["/a", "/b", "{work}", "--seed", "1"])]
    + [("run_open.sh", ["/data", "{work}"])],
)
def test_an_example_gives_only_flags_and_values_that_are_known(tmp_path, script, arguments):
    """Run with a stand-in for fusionctl that notes how it was called."""
    environment, journal = cluster(tmp_path, fusionctl=STUB)
    environment |= {"WORK": str(tmp_path / "it's"), "SEEDS": "2"}
    (tmp_path / "it's" / "report" / "0123456789ab").mkdir(parents=True)
    for name in ("report.html", "results.md"):
        (tmp_path / "it's" / "report" / "0123456789ab" / name).touch()
    command = [EXAMPLES / script, *(a.replace("{work}", environment["WORK"]) for a in arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "state" / "calls").read_text().splitlines()
    for line in calls:
        name, *words = line.split()
        hints = get_type_hints(STAGES[name].settings) if name in STAGES else {"task": Task}
        assert {f"{name} {word}" for word in words if word.startswith("--")} <= known(), line
        for flag, value in zip(words, words[1:], strict=False):
            choices = get_args(hints.get(flag[2:].replace("-", "_")))
            assert not choices or value in choices, line
    if script == "run_paper.sh":
        assert_all_tables(calls)


def assert_all_tables(calls):
    """What the paper's tables need, by task and CLAHE."""
    trained = [re.search(r"--fusion (\S+) --loss (\S+) --seed (\d) --task (\S+)", c) for c in calls if c[:5] == "fuse "]
    counts = {found.groups(): 0 for found in trained}
    for found in trained:
        counts[found.groups()] += 1
    assert set(counts.values()) == {2}, "with CLAHE and without"
    names = {"attention", "medfuse", "card", "contrastive", "ehr", "cxr", "trees", "logistic"}
    for task in ("mortality", "phenotyping"):
        assert {fusion for fusion, _, _, of in counts if of == task} == names
        assert all(("attention", loss, seed, task) in counts for loss in ("bce", "uncertainty") for seed in "01")
    assert sum("--arch vit_b_16" in c for c in calls) == 4
    sweeps = [found for c in calls if c.startswith("robustness ") for found in re.findall("--train-on ([a-z]+)", c)]
    assert sorted(sweeps) == ["both", "both", "clean", "clean"]
    assert sum(c.startswith("report ") for c in calls) == 4


@pytest.mark.skipif(not SHELLCHECK, reason="shellcheck is not installed")
def test_all_scripts_are_clean(tmp_path):
    activate = 'module load cuda && source "$HOME/venv/bin/activate"'
    exported(tmp_path / "jobs", *DATA, "--activate", activate, "--work-dir", tmp_path / "it's", "--stage-to", "$TMPDIR")
    paths = [*(tmp_path / "jobs").glob("*.*"), *EXAMPLES.rglob("*.sh"), *EXAMPLES.glob("slurm/*.*")]
    paths.append(EXAMPLES / "apptainer" / "fusionctl")
    done = subprocess.run([SHELLCHECK, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# --- run by the stand-in


def cluster(folder, **programs):
    """Environment in which sbatch, srun and scontrol are the stand-in's, and other programs what is given."""
    bin, state = folder / "bin", folder / "state"
    bin.mkdir()
    state.mkdir()
    python, script = shlex.quote(sys.executable), shlex.quote(str(Path(__file__).with_name("slurm_stand_in.py")))
    lines = {name: f'exec {python} {script} {name} "$@"' for name in ("sbatch", "srun", "scontrol")}
    modules = {"fusionctl": "fusionctl", "torchrun": "torch.distributed.run"}
    lines |= {name: f'exec {python} -m {module} "$@"' for name, module in modules.items()}
    for name, line in {**lines, **programs}.items():
        (bin / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (bin / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FUSIONCTL_", "SLURM_"))}
    environment |= {"STAND_IN": str(state), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"GLOO_SOCKET_IFNAME": "lo", "PATH": f"{bin}:{os.environ['PATH']}"}
    return environment, state / "journal"


def submit(jobs, environment, script=None):
    command = ["sbatch", "--parsable", script] if script else ["bash", "submit.sh"]
    done = subprocess.run(command, cwd=jobs, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("codes", "attempts"),
    [("0", ["0"]), ("1", ["1"]), ("75 0", ["75", "0"]), ("138 75 0", ["138", "75", "0"]), ("3", ["3"])],
)
def test_a_stopped_job_asks_to_be_started_again_and_a_failed_one_does_not(tmp_path, codes, attempts):
    (tmp_path / "codes").write_text(codes)
    file = shlex.quote(str(tmp_path / "codes"))
    stub = f'read -r code rest < {file}; echo "$rest" > {file}; exit "$code"'
    environment, journal = cluster(tmp_path, fusionctl=stub)
    exported(tmp_path / "jobs", *DATA)
    submit(tmp_path / "jobs", environment, "10-extract.sbatch")
    ends = re.findall(r"ended with (\d+)", journal.read_text())
    assert ends == attempts
    assert "step of 1: fusionctl extract" in journal.read_text()


def test_a_job_that_never_gets_further_is_given_up(tmp_path):
    environment, journal = cluster(tmp_path, fusionctl="exit 75")
    exported(tmp_path / "jobs", *DATA)
    settings = tmp_path / "jobs" / "settings.sh"
    settings.write_text(settings.read_text().replace("MOST_RESTARTS=100", "MOST_RESTARTS=3"))
    submit(tmp_path / "jobs", environment)
    assert journal.read_text().count("extract attempt") == 4
    assert "fusionctl-films cancelled: 1000 failed" in journal.read_text()


def test_every_job_starts_what_it_should(tmp_path):
    environment, journal = cluster(tmp_path, fusionctl="exit 0")
    flags = ("--gpus", "2", "--nodes", "2", "--film-jobs", 2, "--noise-jobs", 1)
    exported(tmp_path / "jobs", *DATA, *flags, "--models", "attention+uncertainty,trees")
    submit(tmp_path / "jobs", environment)
    steps = re.findall(r"step of (\d+): fusionctl (.*)", journal.read_text())
    assert steps == [
        ("1", "extract"),
        ("1", "films --shard 1/2"),
        ("1", "films --shard 2/2"),
        ("1", "films"),
        ("1", "preprocess --task mortality"),
        ("1", "pretrain-ehr --task mortality"),
        ("4", "pretrain-cxr --task radiology"),
        ("4", "fuse --task mortality --fusion attention --loss uncertainty"),
        ("1", "fuse --task mortality --fusion trees"),
        ("1", "robustness --task mortality --models attention+uncertainty --shard 1/1"),
        ("1", "evaluate --task mortality --models attention+uncertainty,trees"),
        ("1", "robustness --task mortality --models attention+uncertainty"),
        ("1", "report --task mortality"),
    ]


# In the place of fusionctl under torchrun: trains until a signal comes, and the second time to the end.
TRAINING = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["STAND_IN_WORK"]) / "fuse" / f"{os.environ['RANK']}.partial"
again = folder.exists()
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
folder.mkdir(parents=True, exist_ok=True)
(folder / "checkpoint.safetensors").touch()
time.sleep(0 if again else 60)
assert os.environ["WORLD_SIZE"] == "2" and sys.argv[1:] == "fuse --task mortality --fusion ehr".split()
"""


def test_torchrun_passes_the_signal_on(tmp_path):
    """Its own exit code says nothing: the script knows of the signal, and asks to be started again."""
    environment, journal = cluster(tmp_path)
    (tmp_path / "fusionctl").mkdir()
    (tmp_path / "fusionctl" / "__main__.py").write_text(TRAINING)
    environment |= {"STAND_IN_SIGNAL": "fusionctl-fuse", "STAND_IN_WORK": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    exported(tmp_path / "jobs", *DATA[:2], "--gpus", 2, "--launcher", "torchrun", "--models", "ehr")
    submit(tmp_path / "jobs", environment, "60-fuse.sbatch")
    (log,) = (tmp_path / "jobs" / "logs").iterdir()
    assert re.findall(r"ended with (\d+)", journal.read_text()) == ["75", "0"], log.read_text()
    assert "fusionctl-fuse gets a signal" in journal.read_text()
    assert sorted(path.name for path in (tmp_path / "fuse").iterdir()) == ["0.partial", "1.partial"]


TINY = """
[films]
film_size = 32
[pretrain-ehr]
hidden = 8
epochs = 2
[fuse]
epochs = 12
patience = 12
[evaluate]
resamples = 20
[robustness]
noise = "0.3"
resamples = 20
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole pipeline as jobs; the model, trained by two processes, is stopped by a signal once."""
    folder = tmp_path_factory.mktemp("cluster") / "odd 'place"
    assert call("synth", "--out", folder / "raw", "--stays", 120, "--seed", 2).exit_code == 0
    (folder / "tiny.toml").write_text(TINY)
    (folder / "node").mkdir()
    environment, journal = cluster(folder)
    environment |= {"STAND_IN_SIGNAL": "fusionctl-fuse", "STAND_IN_WORK": str(folder / "work")}
    environment |= {"NODE_DISK": str(folder / "node")}
    raw = ("--mimic-root", folder / "raw" / "mimic-iv", "--cxr-root", folder / "raw" / "mimic-cxr-jpg")
    flags = ("--preset", "demo", "--config", folder / "tiny.toml", "--work-dir", folder / "work", "--gpus", 2)
    flags += ("--cpus", 1, "--film-jobs", 2, "--noise-jobs", 1, "--models", "ehr", "--stage-to", "$NODE_DISK")
    exported(folder / "jobs", *raw, *flags)
    submit(folder / "jobs", environment)
    logs = {path.name: path.read_text() for path in (folder / "jobs" / "logs").iterdir()}
    return folder, Work(folder / "work"), journal.read_text(), logs


def test_the_jobs_end_with_a_report(finished):
    folder, work, journal, logs = finished
    assert "cancelled" not in journal, logs
    names = ("extract", "films", "preprocess", "pretrain-ehr", "fuse", "evaluate", "robustness", "report")
    assert {name: len(work.artifacts(name)) for name in names} == dict.fromkeys(names, 1), logs
    assert work.leftovers() == [] and work.artifacts("report")[0].file("report.html").exists()
    assert {path.stat().st_mode & 0o077 for path in (folder / "jobs" / "logs").iterdir()} == {0}
    assert not any("Traceback" in text for text in logs.values())


def test_the_films_are_shared_by_the_elements_of_an_array(finished):
    *_, journal, logs = finished
    for share in ("1/2", "2/2"):
        assert f"step of 1: fusionctl films --shard {share}" in journal
    assert sum("running share" in text for name, text in logs.items() if "films" in name) == 2


def test_several_tasks_train_one_model_and_go_on_after_a_requeue(finished):
    _, work, journal, logs = finished
    lines = [line for line in journal.splitlines() if line.startswith("fusionctl-fuse")]
    assert [line.split(" ", 1)[1].split(":")[0] for line in lines] == [
        "step of 2",
        "gets a signal",
        "attempt 0 ended with 75",
        "step of 2",
        "attempt 1 ended with 0",
    ]
    (log,) = [text for name, text in logs.items() if "fuse" in name]  # one log for both attempts
    assert "a checkpoint is saved" in log and "resumed from a checkpoint" in log
    (artifact,) = work.artifacts("fuse")
    assert artifact.manifest["processes"] == 2 and len(artifact.file("history.jsonl").read_text().splitlines()) == 12


def test_arrays_are_copied_once_to_the_nodes_disk(finished):
    folder, work, _, logs = finished
    (copy,) = (folder / "node").glob("*/preprocess/????????????")
    assert json.loads((copy / "manifest.json").read_text())["id"] == work.artifacts("preprocess")[0].id
    assert sum(text.count(f"copying preprocess/{copy.name}") for text in logs.values()) == 1
