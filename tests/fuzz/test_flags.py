"""Rubbish on the command line, in the environment and in the configuration file: one clear line and exit code 2."""

import re

import pytest
from typer.testing import CliRunner

from fusionctl import cli

LONG = "x" * 100_000
NUMBERS = ("nan", "inf", "-1e9", "1e400", "", "x", "é", "1,5", LONG)
# By command and flag: what it must not take.
REFUSED = {
    ("robustness", "--noise"): (*NUMBERS, "0.6:0.1", "1e9", "0.1:0.6:0", "0.1:0.6:1e-9", "0.1,,0.2", "1:2:3:4"),
    ("films", "--shard"): ("0/0", "1/0", "2/1", "a", "", "1/1000000000", "-1/2", "²/3", "1/2/3", LONG),
    ("fuse", "--seed"): ("-1", "1e30", "9" * 30, "1.5", *NUMBERS),
    ("fuse", "--jobs"): ("0", "-1", "1e9", "9" * 20, *NUMBERS),
    ("fuse", "--lr"): NUMBERS,
    ("fuse", "--epochs"): ("0", "-1", "1e9", *NUMBERS),
    ("fuse", "--batch-size"): ("0", *NUMBERS),
    ("fuse", "--task"): ("bogus", "", "MORTALITY", "é", "radiology"),
    ("fuse", "--fusion"): ("bogus", "", "attention,ehr"),
    ("fuse", "--device"): ("", "tpu", "cuda:-1", "cuda:x", "CPU", "é", LONG),
    ("fuse", "--preset"): ("", "papr", "PAPER", LONG),
    ("preprocess", "--timestep"): ("0", "1e9", *NUMBERS),
    ("preprocess", "--folds"): ("-1", "1e9", *NUMBERS),
    ("preprocess", "--film-window"): ("1", "a:b", "nan:1", "5:1", ":::", "inf:1", "é", LONG),
    ("films", "--film-size"): ("0", "31", "2049", *NUMBERS),
    ("films", "--max-bad-films"): ("1.01", "-0.01", *NUMBERS),
    ("evaluate", "--resamples"): ("0", *NUMBERS),
    ("evaluate", "--threshold"): ("2", *NUMBERS),
    ("synth", "--stays"): ("0", "-1", "10000000000000", *NUMBERS),
    ("synth", "--layout"): ("", "v9", "V2"),
}
RUN_REFUSED = {
    "--noise": ("0.6:0.1", "nan", "1e9"),
    "--set": ("", "a", "a=b", "a.b", "fuse.lr", "fuse.lr=", "fuse.lr=nan", "nope.lr=1", "fuse.nope=1", "=", LONG)
    + ("films.clahe=maybe", "preprocess.film_window=5:1", "robustness.noise=x", "fuse.fusion=x", "é.é=é"),
    "--models": ("nope", "attention,nope", LONG),
}
CONFIGS = {
    "binary": bytes(range(256)) * 10,
    "UTF-16": "[fuse]\nlr=1\n".encode("utf-16"),
    "text": b"lr is 1",
    "a NUL": b"\0",
    "another type": b'[fuse]\nlr="fast"',
    "a list": b"[fuse]\nlr=[1]",
    "no table": b"fuse=1",
    "a date": b"[common]\nseed=2020-01-01",
    "nan": b"[fuse]\nlr=nan",
    "infinity": b"[fuse]\nlr=inf",
    "a truth": b"[fuse]\nepochs=true",
    "a fraction": b"[fuse]\nepochs=1.5",
    "an unknown key": b"[fuse]\nrate=1",
    "an unknown table": b"[fusion]\nlr=1",
    "a key twice": b"[fuse]\nlr=1\nlr=2",
    "a huge number": b"[common]\nseed=99999999999999999999",
    "a negative seed": b"[common]\nseed=-1",
    "brackets without end": b"a=" + b"[" * 5000 + b"]" * 5000,
    "a path with a NUL": b'[common]\nwork_dir="a\\u0000b"',
}
ENVIRONMENT = {
    "FUSIONCTL_SEED": ("rubbish", "-1", "1e30"),
    "FUSIONCTL_JOBS": ("rubbish", "0"),
    "FUSIONCTL_PRESET": ("rubbish",),
    "FUSIONCTL_DEVICE": ("rubbish",),
    "FUSIONCTL_FUSE_LR": ("rubbish", "nan", "-1"),
    "FUSIONCTL_FUSE_EPOCHS": ("1.5", "0"),
    "FUSIONCTL_FUSE_TASK": ("rubbish",),
    "FUSIONCTL_FUSE_COMPILE": ("perhaps",),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def check_refused(*arguments, code=2, **environment):
    result = CliRunner(env=environment).invoke(cli.app, [str(a) for a in arguments])
    shown = [str(a)[:60] for a in arguments]
    assert result.exit_code == code, (shown, result.output[-500:])
    assert "Traceback" not in result.output and "internal error" not in result.output, (shown, result.output)
    errors = re.findall(r"^error: \S|^╭─ Error", result.stderr, re.MULTILINE)
    assert len(errors) == 1, (shown, result.stderr[-500:])
    assert not re.search(r"[\0-\x08\x0b-\x1f]", result.stderr)
    return result.stderr


@pytest.mark.parametrize(("command", "flag"), REFUSED, ids=" ".join)
def test_values_that_a_flag_does_not_take(tmp_path, command, flag):
    extra = ("--out", "new") if command == "synth" else ()
    for value in REFUSED[command, flag]:
        said = check_refused(command, *extra, f"{flag}={value}")
        assert len(said) < 3000 or "╭─ Error" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", RUN_REFUSED)
def test_run_refuses_before_it_reads_anything(tmp_path, flag):
    (tmp_path / "raw").mkdir()
    for value in RUN_REFUSED[flag]:
        said = check_refused("run", "--mimic-root", "raw", "--cxr-root", "raw", f"{flag}={value}")
        assert "no folder icu/" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_that_are_none(tmp_path, name):
    path = tmp_path / "c.toml"
    path.write_bytes(CONFIGS[name])
    check_refused("fuse", "--config", path)


def test_a_configuration_that_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / LONG, ""):
        assert "--config" in check_refused("fuse", "--config", path)


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_rubbish_in_the_environment(name):
    for value in ENVIRONMENT[name]:
        check_refused("fuse", **{name: value})


@pytest.mark.parametrize("flag", ["--mimic-root", "--cxr-root", "--work-dir"])
def test_paths_that_cannot_be(tmp_path, flag):
    (tmp_path / "raw").mkdir()
    (tmp_path / "file").write_text("")
    for path in (LONG, "a/" * 3000, "file", "/dev/null"):
        given = {"--mimic-root": "raw", flag: path}
        check_refused("extract", *(text for pair in given.items() for text in pair), code=3)


@pytest.mark.parametrize("arguments", [["nope"], [""], ["--nope"], ["fuse", "extra"], ["fuse", "--lr"], ["list", "x"]])
def test_what_is_no_command(arguments):
    check_refused(*arguments)
