"""The film encoder: the paper's size, few films, no films."""

import pytest
import torch

from fusionctl.models.cxr import CxrEncoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return CxrEncoder("resnet18", 3, input_size=32)


def films(n, side=40, seed=0):
    return torch.randint(0, 256, (n, 1, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_the_papers_parameter_count():
    encoder = CxrEncoder("resnet34", 14)
    assert sum(p.numel() for p in encoder.parameters()) == 21_284_672 + 513 * 14
    assert encoder.dim == 512


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="arch must be one of resnet34, resnet18; got 'vgg'"):
        CxrEncoder("vgg")


def test_no_film_gives_no_features(encoder):
    encoder.train()
    assert encoder.embed(films(0)).shape == (0, 512)


def test_one_film_in_training_takes_the_running_statistics(encoder):
    """At 32 pixels the last maps are 1 x 1: batch normalisation of one film would be an error."""
    encoder.train()
    before = encoder.trunk.bn1.running_mean.clone()
    features = encoder.embed(films(1))
    features.sum().backward()
    assert torch.equal(encoder.trunk.bn1.running_mean, before)
    assert encoder.trunk.conv1.weight.grad.abs().sum() > 0
    assert encoder.trunk.training and encoder.trunk.bn1.training
    encoder.embed(films(2))
    assert not torch.equal(encoder.trunk.bn1.running_mean, before)


def test_rows_are_independent_in_evaluation(encoder):
    encoder.eval()
    together = encoder(films(3))
    torch.testing.assert_close(together[1:2], encoder(films(3)[1:2]), rtol=1e-4, atol=1e-5)


def test_config_builds_the_same_encoder(encoder):
    again = CxrEncoder(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(films(2)), encoder.eval()(films(2)))
