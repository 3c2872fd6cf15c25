"""Two processes that train one model: the same result as one, and one artifact."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import distributed_worker
import pytest
import torch
from toy import publish, write_preprocessed
from typer.testing import CliRunner

from fusionctl import checkpoint, distributed
from fusionctl.cli import app
from fusionctl.data.batch import StayData
from fusionctl.distributed import Group, Place, place
from fusionctl.errors import UsageError
from fusionctl.workdir import Work

MET = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}


def test_the_place_is_what_the_launcher_says():
    assert place({}) == Place(0, 1, 0) and place({}).leads
    assert place({**MET, **TORCHRUN, **SLURM}) == Place(3, 8, 1) and not place({**MET, **TORCHRUN}).leads
    assert place({**MET, **SLURM}) == Place(2, 4, 0)
    assert place(SLURM) == Place(), "the tasks of a job array share nothing"
    assert place({**MET, "RANK": "0", "WORLD_SIZE": "1"}) == Place()
    for wrong in ({"RANK": "8"}, {"RANK": "-1"}, {"WORLD_SIZE": "many"}):
        with pytest.raises(UsageError, match="not the place of a process"):
            place({**MET, **TORCHRUN, **wrong})


def test_alone_there_is_nobody_to_talk_to(tmp_path):
    group, module = Group(), torch.nn.Linear(1, 1)
    assert group.total([1.5, 2]) == [1.5, 2] and group.from_leader([3.0]) == [3.0]
    assert group.wrap(module, "cpu", partly_used=True) is module
    group.share_file(tmp_path / "none")
    with distributed.joined(Place(), device="cpu") as joined:
        assert joined == Group() == distributed.current()


def test_each_process_has_its_own_gpu():
    assert distributed.device_of(Place(5, 8, 1), "cuda") == "cuda:1"
    assert distributed.device_of(Place(), "cuda") == "cuda" and distributed.device_of(Place(1, 2, 1), "cpu") == "cpu"


def start(rank, port, *command):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FUSIONCTL_", "SLURM_"))}
    environment |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = str(Path(distributed.__file__).parents[1])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *map(str, command)], env=environment, **pipes)


def start_both(*command):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [start(rank, port, *command) for rank in range(2)]


def outcome(processes):
    """(exit code, standard output, standard error) of each process."""
    try:
        texts = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory):
    return write_preprocessed(tmp_path_factory.mktemp("toy"), stays=60, known=0.8)


@pytest.fixture(scope="module")
def trained(preprocessed, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    for code, _, errors in outcome(start_both(distributed_worker.__file__, preprocessed, out)):
        assert code == 0, errors
    return out


def result(folder, name, rank):
    tensors, facts = checkpoint.read(folder / f"{name}-{rank}")
    return tensors, json.loads(facts["history"])


def test_two_processes_learn_what_one_does(preprocessed, trained):
    """Uneven shares, a step with a row for one of them alone, unknown labels, learned variances, clipped gradients."""
    tensors, history = distributed_worker.learn(StayData.open(preprocessed))
    for rank in range(2):
        found, records = result(trained, "whole", rank)
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)
        for record, expected in zip(records, history, strict=True):
            assert record == pytest.approx(expected, abs=1e-5)


def test_a_signal_to_one_stops_both_and_they_go_on_as_if_nothing_had_been(trained):
    for rank in range(2):
        (whole, history), (again, records) = result(trained, "whole", rank), result(trained, "stopped", rank)
        assert records == history
        assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_film_encoder_without_a_film_in_one_process(trained):
    (first, history), (second, records) = result(trained, "fused", 0), result(trained, "fused", 1)
    assert records == history and len(history) == 1
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", distributed_worker.SHARED)
def test_a_loss_of_pairs_is_that_of_all_processes(preprocessed, trained, name):
    gradients, _ = distributed_worker.shared(StayData.open(preprocessed), name)
    assert gradients
    for rank in range(2):
        found, _ = result(trained, name, rank)
        for key, gradient in gradients.items():
            largest = float(gradient.abs().max())
            torch.testing.assert_close(found[key], gradient, rtol=0, atol=1e-5 * max(largest, 1e-2), msg=key)


def test_what_is_told_apart_is_told_apart_in_all_processes(trained):
    whole, _ = distributed_worker.contrasted(0, 1)
    for rank in range(2):
        found, _ = result(trained, "contrasted", rank)
        torch.testing.assert_close(found["loss"], whole["loss"])
        for name in ("a", "b"):
            torch.testing.assert_close(found[name], whole[name][rank::2])


def test_processes_of_torchrun_meet_as_often_as_there_are_seeds(tmp_path):
    """Its store outlives what they wrote there the time before."""
    script = tmp_path / "meet.py"
    script.write_text(
        "from fusionctl import distributed\n"
        "for turn in range(5):\n"
        "    with distributed.joined(distributed.place(), device='cpu') as group:\n"
        "        assert group.total([turn]) == [2 * turn]\n"
    )
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment["PYTHONPATH"] = str(Path(distributed.__file__).parents[1])
    subprocess.run(command, env=environment, check=True, timeout=200, capture_output=True)


def test_the_first_process_alone_writes_and_speaks(preprocessed, tmp_path):
    work = Work(tmp_path / "work")
    publish(work, preprocessed)
    command = ("-m", "fusionctl", "pretrain-ehr", "--work-dir", work.root, "--epochs", 25, "--hidden", 8, "--jobs", 1)
    processes = start_both(*command, "--device", "cpu")
    checkpoints = list(work.root.glob("pretrain-ehr/*.partial/checkpoint.safetensors"))
    while not checkpoints and all(process.poll() is None for process in processes):
        time.sleep(0.05)
        checkpoints = list(work.root.glob("pretrain-ehr/*.partial/checkpoint.safetensors"))
    processes[1].send_signal(signal.SIGTERM)
    assert [code for code, _, _ in outcome(processes)] == [75, 75]
    (first, second) = outcome(start_both(*command, "--device", "cpu"))
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "resumed from a checkpoint" in first[2] and second[1:] == ("", "")
    (made,) = work.artifacts("pretrain-ehr")
    assert first[1].strip() == str(made.path) and made.manifest["processes"] == 2
    assert work.leftovers() == [] and len(made.file("history.jsonl").read_text().splitlines()) == 25


def test_a_stage_that_does_not_train_is_for_one_process(monkeypatch, tmp_path):
    for name, value in {**MET, **TORCHRUN}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["extract", "--mimic-root", str(tmp_path), "--work-dir", str(tmp_path / "w")])
    assert result.exit_code == 2 and "extract does not train, so 8 processes cannot share it" in result.stderr
    assert not (tmp_path / "w").exists()
