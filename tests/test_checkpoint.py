"""Files of weights: same bytes, atomic, no pickle."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from fusionctl import checkpoint
from fusionctl.errors import InputError


def test_what_is_written_is_read_bit_for_bit(tmp_path):
    tensors = {"a": torch.randn(3, 2), "s": torch.tensor(2.0), "n": torch.arange(4)}
    facts = {"lr": 0.1 + 0.2, "best": float("inf"), "history": [{"epoch": 1, "loss": None}]}
    checkpoint.write(tmp_path / "x.safetensors", tensors, facts)
    read, read_facts = checkpoint.read(tmp_path / "x.safetensors")
    assert read_facts == facts
    assert read.keys() == tensors.keys() and all(torch.equal(read[n], tensors[n]) for n in tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_same_content_same_bytes_whatever_the_memory_order(tmp_path):
    film = torch.randn(2, 3, 4, 4)
    checkpoint.write(tmp_path / "a", {"w": film}, {"a": 2})
    checkpoint.write(tmp_path / "b", {"w": film.contiguous(memory_format=torch.channels_last)}, {"a": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    checkpoint.write(path, {"w": torch.zeros(1)}, {})
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fusionctl.durable.os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(path, {"w": torch.ones(1)}, {})
    assert path.read_bytes() == before


def test_what_a_kill_leaves_the_next_write_clears(tmp_path, monkeypatch):
    """safetensors writes to a hidden name of its own choice first, which must not end up in an artifact."""
    save = checkpoint.save_file

    def killed(tensors, path, **more):
        (path.parent / ".tmpA1b2C3").write_bytes(b"half")
        raise KeyboardInterrupt

    for now, expected in ((killed, pytest.raises(KeyboardInterrupt)), (save, nullcontext())):
        monkeypatch.setattr(checkpoint, "save_file", now)
        with expected:
            checkpoint.write(tmp_path / "x", {"w": torch.zeros(1)}, {})
    assert [p.name for p in tmp_path.rglob("*")] == ["x"]


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x08" + 7 * b"\0" + b'{"a": 1}'])
def test_another_file_is_one_clear_error(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match="x: not a readable weights file"):
        checkpoint.read(tmp_path / "x")
    with pytest.raises(InputError, match="gone: not a readable weights file"):
        checkpoint.read(tmp_path / "gone")


def test_weights_of_another_shape_are_refused(tmp_path):
    checkpoint.write_weights(tmp_path / "w", nn.Linear(2, 3), config={})
    tensors, _ = checkpoint.read(tmp_path / "w")
    with pytest.raises(InputError, match="its weights do not fit the model: size mismatch for bias"):
        checkpoint.load_into(nn.Linear(2, 4), tensors, tmp_path / "w")


def test_an_optimiser_goes_on_as_if_it_had_not_stopped():
    def step(model, optimiser, seed):
        x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        model(x).square().sum().backward()
        optimiser.step()

    def make():
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)

    model, optimiser = make()
    step(model, optimiser, 1)
    again, fresh = make()
    again.load_state_dict(model.state_dict())
    optimiser.param_groups[0]["lr"] = 0.05
    checkpoint.restore_adam(fresh, checkpoint.flatten_adam(optimiser), [0.05])
    for seed in (2, 3):
        step(model, optimiser, seed)
        step(again, fresh, seed)
    assert torch.equal(model.weight, again.weight) and torch.equal(model.bias, again.bias)
