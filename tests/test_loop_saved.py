"""A checkpoint is used whole or not at all."""

import json
import pickle
import struct

import pytest
import torch
from torch import nn

from fusionctl import checkpoint, loop_saved
from fusionctl.errors import InputError


def made(width=3):
    torch.manual_seed(0)
    model = nn.Linear(2, width)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 2)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)
    position = loop_saved.Position(epoch=2, step=1, best_epoch=1, best_score=0.5, history=[{"epoch": 1}])
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    saved = loop_saved.Saved(
        learner=weights, best={n: t + 1 for n, t in weights.items()}, adam=checkpoint.flatten_adam(optimiser),
        loss_sum=torch.tensor(1.5),
        lrs=[0.1], schedule=schedule.state_dict(), position=position,
    )  # fmt: skip
    fresh = {"learner": weights, "parameters": list(model.parameters())}
    return saved, {**fresh, "n_groups": 1, "schedule": schedule.state_dict()}


@pytest.fixture
def path(tmp_path):
    made()[0].write(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_what_was_written_is_read(path):
    saved, model = made()
    read = loop_saved.read(path, **model)
    assert read.position == saved.position and read.lrs == [0.1] and read.schedule == saved.schedule
    for group in ("learner", "best", "adam"):
        one, other = getattr(read, group), getattr(saved, group)
        assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_no_byte_can_be_changed_unseen(path):
    whole, model = path.read_bytes(), made()[1]
    begin = 8 + struct.unpack("<Q", whole[:8])[0]
    for position in range(begin, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(InputError, match="its content is not what was written"):
            loop_saved.read(path, **model)
    for position in range(0, begin, 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(InputError):  # of the header some bytes make it no JSON, or another file
            loop_saved.read(path, **model)


def rewritten(path, tensors=None, **facts):
    old, old_facts = checkpoint.read(path)
    tensors, facts = {**old, **(tensors or {})}, {**old_facts, **facts}
    said = facts.pop("crc32")
    checkpoint.write(path, tensors, {**facts, "crc32": said and checkpoint.checksum(tensors, facts)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": {"elsewhere/x": torch.zeros(1)}}, "its tensors are not those of a checkpoint"),
        ({"tensors": {"learner/weight": torch.zeros(5, 2)}}, "its weights do not fit"),
        ({"tensors": {"best/weight": torch.zeros(3, 2).double()}}, "its weights do not fit"),
        ({"tensors": {"adam/7.exp_avg": torch.zeros(3, 2)}}, "its optimiser does not fit"),
        ({"tensors": {"adam/x.exp_avg": torch.zeros(3, 2)}}, "its optimiser does not fit"),
        ({"leave": "other code"}, "its facts are not those"),
        ({"epoch": "2"}, "its facts are not those"),
        ({"lrs": [1, 2]}, "its facts are not those"),
        ({"schedule": {"optimizer": 1}}, "its facts are not those"),
        ({"crc32": None}, "its content is not what was written"),
    ],
)
def test_another_content_is_refused_before_any_of_it_is_used(path, change, message):
    rewritten(path, **change)
    with pytest.raises(InputError, match=message):
        loop_saved.read(path, **made()[1])


class Malicious:
    """A pickle that leaves a trace when it is loaded."""

    def __reduce__(self):
        return (open, ("executed", "w"))


def lying(header):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + b"\0" * 16


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ATTACKS = {
    "a pickle": pickle.dumps({"learner/weight": Malicious()}),
    "a pickle as torch writes it": b"PK\x03\x04" + pickle.dumps(Malicious()),
    "a header longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
    "offsets past the end": lying({"learner/weight": {**TENSOR, "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
    "offsets that overlap": lying({"a": TENSOR, "b": TENSOR, "__metadata__": {"facts": "{}"}}),
    "a shape that wraps": lying({"a": {**TENSOR, "shape": [1 << 33, 1 << 33]}}),
    "negative offsets": lying({"a": {**TENSOR, "data_offsets": [-8, 0]}}),
    "no JSON": lying(b"{" * 64),
    "facts nested too deep": lying({"__metadata__": {"facts": "[" * 100_000}, "a": {**TENSOR, "shape": [4],
                                    "data_offsets": [0, 16]}}),
    "facts that are a list": lying({"__metadata__": {"facts": "[]"}, "a": {**TENSOR, "shape": [4],
                                    "data_offsets": [0, 16]}}),
    "no tensors": lying({"__metadata__": {"facts": "{}"}})[:-16],
}  # fmt: skip


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_malicious_checkpoint_is_refused_and_nothing_in_it_runs(path, kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path.write_bytes(ATTACKS[kind])
    with pytest.raises(InputError, match=r"checkpoint: "):
        loop_saved.read(path, **made()[1])
    assert not (tmp_path / "executed").exists()
