"""Copies on the node's own disk: whole, verified, made once, and clear errors."""

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import pytest
from toy import publish, write_preprocessed
from typer.testing import CliRunner

from fusionctl import cli, config, options, staging
from fusionctl.errors import FusionctlError, InputError
from fusionctl.stages import STAGES
from fusionctl.workdir import Artifact, Work


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    monkeypatch.setattr(staging, "_checked", set())


@pytest.fixture
def original(tmp_path):
    write_preprocessed(tmp_path / "toy", stays=12)
    return publish(Work(tmp_path / "work"), tmp_path / "toy")


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "node 'disk"
    folder.mkdir()
    return folder


def copies(caplog):
    return sum(record.message.startswith("copying") for record in caplog.records)


def test_the_copy_is_whole_closed_and_made_once(original, node, caplog):
    caplog.set_level(logging.INFO, "fusionctl")
    copy = staging.stage(original, node)
    assert copy.path == node / f"fusionctl-{os.getuid()}" / "preprocess" / original.id
    assert copy.id == original.id and copy.manifest == original.manifest
    names = sorted(path.name for path in original.path.iterdir())
    assert sorted(path.name for path in copy.path.iterdir()) == names
    assert all(copy.file(name).read_bytes() == original.file(name).read_bytes() for name in names)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (copy.path, copy.path.parent, copy.path.parents[1]))
    assert staging.stage(original, node).path == copy.path and copies(caplog) == 1
    staging._checked.clear()  # as another process
    assert staging.stage(original, node).path == copy.path and copies(caplog) == 1


@pytest.mark.parametrize("damage", ["byte", "missing", "cut"])
def test_a_wrong_copy_is_made_again(original, node, caplog, damage):
    values = staging.stage(original, node).file("values.npy")
    content = values.read_bytes()
    if damage == "missing":
        values.unlink()
    else:
        values.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "byte" else b""))
    staging._checked.clear()
    again = staging.stage(original, node)
    assert values.read_bytes() == content and "the copy is made again" in caplog.text
    assert sorted(p.name for p in again.path.parent.iterdir()) == [original.id, f"{original.id}.lock"]


def test_a_copy_of_what_has_been_made_again_is_not_used(original, node):
    staging.stage(original, node)
    original.file("values.npy").write_bytes(b"new")
    files = {**original.manifest["files"], "values.npy": {"size": 3, "sha256": hashlib.sha256(b"new").hexdigest()}}
    renewed = Artifact(original.stage, original.id, original.path, {**original.manifest, "files": files})
    assert staging.stage(renewed, node).file("values.npy").read_bytes() == b"new"


def test_what_a_killed_run_left_is_copied_anew(original, node):
    left = node / f"fusionctl-{os.getuid()}" / "preprocess" / f"{original.id}.partial"
    left.mkdir(parents=True)
    (left / "values.npy").write_bytes(b"half")
    (node / f"fusionctl-{os.getuid()}").chmod(0o700)
    staging.stage(original, node).verify()
    assert not left.exists()


def test_a_damaged_original_is_named_and_not_used(original, node):
    original.file("values.npy").write_bytes(b"broken")
    with pytest.raises(InputError, match=f"preprocess/{original.id} is damaged: {original.path}/values.npy"):
        staging.stage(original, node)
    assert [p.name for p in (node / f"fusionctl-{os.getuid()}" / "preprocess").iterdir()] == [f"{original.id}.lock"]


def test_too_little_room_is_said_before_anything_is_copied(original, node, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10, 10))
    with pytest.raises(FusionctlError, match=r"GB are needed, 0\.0 GB are free on") as caught:
        staging.stage(original, node)
    assert caught.value.exit_code == 1 and "choose another folder" in caught.value.hint
    assert not list(node.rglob("*.partial"))


def test_a_disk_that_fills_while_copying(original, node, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(FusionctlError, match="No space left on device"):
        staging.stage(original, node)
    assert not list(node.rglob("*.partial"))


def test_a_folder_that_cannot_be_used(original, node, tmp_path):
    with pytest.raises(InputError, match=r"--stage-to .*nowhere: no such directory on"):
        staging.stage(original, tmp_path / "nowhere")
    own = node / f"fusionctl-{os.getuid()}"
    own.symlink_to(tmp_path)
    with pytest.raises(FusionctlError, match="must be a folder of yours that is closed to others"):
        staging.stage(original, node)
    own.unlink()
    own.mkdir()
    own.chmod(0o755)
    with pytest.raises(FusionctlError, match="closed to others"):
        staging.stage(original, node)


def test_only_what_is_read_again_and_again_is_copied(original, node, tmp_path):
    other = Artifact("pretrain-ehr", "ab", tmp_path, {"files": {}})
    inputs = {"preprocess": original, "pretrain-ehr": other, "fuse": [other], "init": None}
    assert staging.staged(inputs, None) == inputs
    found = staging.staged(inputs, node)
    assert found["preprocess"].path.is_relative_to(node)
    assert {name: found[name] for name in inputs if name != "preprocess"} == {
        name: inputs[name] for name in inputs if name != "preprocess"
    }
    assert staging.applies(original, node) and not staging.applies(original, None)
    assert not staging.applies(other, node) and not staging.applies(None, node)


def test_of_several_processes_one_copies(original, node):
    """The others wait for it, and all read the same copy."""
    code = """
        import json, logging, os, sys
        from pathlib import Path
        from fusionctl import staging
        from fusionctl.workdir import Work

        os.umask(0o077)
        logging.basicConfig(level="INFO")
        original = Work(Path(sys.argv[1])).artifacts("preprocess")[0]
        sys.stdin.readline()
        print(staging.stage(original, Path(sys.argv[2])).verify().path)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(original.path.parents[1]), str(node)]
    environment = {**os.environ, "PYTHONPATH": str(Path(staging.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    texts = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, texts
    assert len({out for out, _ in texts}) == 1
    assert sum("copying preprocess/" in errors for _, errors in texts) == 1


def test_training_reads_the_copy(original, node, tmp_path, monkeypatch):
    """The option through the command line: the same artifact as without, from another place."""
    flags = ["--work-dir", str(tmp_path / "work"), "--epochs", "1", "--hidden", "8", "--jobs", "1"]

    def train(*more):
        result = CliRunner().invoke(cli.app, ["pretrain-ehr", *flags, *more])
        assert result.exit_code == 0, result.output
        return json.loads((Path(result.stdout.split()[-1]) / "manifest.json").read_text())

    plain = train("--force")
    opened = []
    monkeypatch.setattr(Artifact, "verify", lambda self, **_: opened.append(self.path) or self)
    staged = train("--force", "--stage-to", str(node))
    assert staged["files"] == plain["files"] and staged["id"] == plain["id"]
    assert original.path not in opened and any(path.is_relative_to(node) for path in opened)
    result = CliRunner().invoke(cli.app, ["pretrain-ehr", *flags, "--force", "--stage-to", "/nowhere"])
    assert result.exit_code == 3 and "--stage-to /nowhere: no such directory" in result.stderr


def test_the_option_is_where_arrays_are_trained_on(tmp_path):
    for name, stage in ((n, s) for n, s in STAGES.items() if not s.hidden):
        assert ("--stage-to" in CliRunner().invoke(cli.app, [name, "--help"]).stdout) == stage.networks
    file = tmp_path / "c.toml"
    file.write_text('[common]\nstage_to = "/scratch"\n')
    tables = config.read_config(file, {})
    assert config.collect_common({}, tables, options.COMMON_DEFAULTS)["stage_to"] == Path("/scratch")
