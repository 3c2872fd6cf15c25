"""Early and joint fusion: the same model, with encoders that stand still or learn."""

import copy

import pytest
import torch

from fusionctl import fusion
from fusionctl.data.batch import collate

from .models import close, logits, loss_of, make

both = pytest.mark.parametrize("name", ["early", "joint"])


@both
def test_features_side_by_side(name, data):
    model, batch = make(name, k=3).eval(), collate(data, [0, 1])
    with torch.no_grad():
        series = model.ehr.features(batch.series, batch.lengths)
        film = model.projection(model.cxr.embed(batch.films))
        weight, dim = model.classifier.weight, model.ehr.dim
        expected = series @ weight[:, :dim].T + model.classifier.bias
        expected[0] += film[0] @ weight[:, dim:].T
    close(logits(model, batch), expected)


def trained(name, data):
    """A model before and after a step, on films that are augmented wherever something is in training mode."""
    model = make(name)
    model.cxr.magnitude = 1.0
    before = copy.deepcopy(model.state_dict())
    model.train()
    loss_of(model, collate(data, [0, 1, 2, 4])).backward()
    torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2).step()
    return model, {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}


def test_early_keeps_its_encoders_to_the_last_bit(data):
    """Weights, and the statistics of batch normalisation too."""
    model, changed = trained("early", data)
    assert changed == {"projection.weight", "projection.bias", "classifier.weight", "classifier.bias"}
    assert model.training and not model.ehr.training and not any(m.training for m in model.cxr.modules())


def test_early_reads_the_same_features_in_training(data):
    """Neither dropout nor augmentation."""
    model, batch = make("early").train(), collate(data, [0, 1, 2])
    model.cxr.magnitude = 1.0
    assert torch.equal(logits(model, batch), logits(model, batch))
    assert torch.equal(logits(model.train(), batch), logits(model.eval(), batch))


def test_early_stays_so_when_it_is_loaded(tmp_path):
    fusion.save(tmp_path / "weights.safetensors", make("early"))
    model = fusion.load(tmp_path / "weights.safetensors").train()
    assert not model.ehr.training and {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {
        "projection",
        "classifier",
    }


def test_joint_trains_its_encoders(data):
    _, changed = trained("joint", data)
    assert {"cxr.trunk.conv1.weight", "cxr.trunk.bn1.running_mean", "classifier.weight"} <= changed
    assert any(name.startswith("ehr.") for name in changed)
    assert not any(".head." in name for name in changed)
