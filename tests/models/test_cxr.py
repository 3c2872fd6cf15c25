"""The film encoder: the paper's size, every network, few films, no films."""

from typing import get_args

import pytest
import torch

from fusionctl.errors import UsageError
from fusionctl.models.cxr import ARCHS, STAGE_WIDTHS, CxrEncoder
from fusionctl.settings import CxrArch


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


@pytest.mark.parametrize(
    ("arch", "dim", "with_classifier"),  # parameters as torchvision's documentation gives them, for 1000 classes
    [
        ("resnet18", 512, 11_689_512),
        ("resnet50", 2048, 25_557_032),
        ("densenet121", 1024, 7_978_856),
        ("vit_b_16", 768, 86_567_656),
    ],
)
def test_every_network_is_the_whole_one_without_its_classifier(arch, dim, with_classifier):
    with torch.device("meta"):
        encoder = CxrEncoder(arch, 14)
    assert encoder.dim == dim == encoder.head.in_features
    assert sum(p.numel() for p in encoder.trunk.parameters()) == with_classifier - (dim + 1) * 1000


def test_the_settings_name_every_network():
    assert get_args(CxrArch) == ARCHS


def test_an_unknown_network_is_refused():
    known = "resnet34, resnet18, resnet50, densenet121, vit_b_16"
    with pytest.raises(ValueError, match=f"arch must be one of {known}; got 'vgg'"):
        CxrEncoder("vgg")


def test_the_transformer_wants_whole_patches():
    with pytest.raises(
        UsageError, match="--input-size must be a multiple of 16 with --arch vit_b_16; got 100"
    ) as error:
        CxrEncoder("vit_b_16", input_size=100)
    assert error.value.hint == "the nearest is --input-size 96"


@pytest.mark.parametrize("arch", ["resnet50", "densenet121", "vit_b_16"])
def test_other_networks_take_two_films_one_and_none(arch):
    """At 32 pixels batch normalisation of one film would be an error."""
    torch.manual_seed(0)
    encoder = CxrEncoder(arch, 3, input_size=32).train()
    for n in (2, 1, 0):
        assert encoder(films(n)).shape == (n, 3)
    encoder(films(1)).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert encoder.trunk.training
    encoder.eval()
    torch.testing.assert_close(encoder(films(2))[1:], encoder(films(2)[1:]), rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("arch", list(STAGE_WIDTHS))
def test_stages_and_pool_are_the_network_bit_for_bit(arch, train):
    torch.manual_seed(0)
    encoder = CxrEncoder(arch, 3, input_size=32).train(train)
    x, widths = torch.randn(3, 3, 32, 32), []
    whole = encoder.features(x)
    maps = x
    for stage in encoder.stages():
        maps = stage(maps)
        widths.append(maps.shape[1])
    assert torch.equal(encoder.pool(maps), whole)
    assert tuple(widths) == encoder.stage_widths
    assert torch.equal(encoder.features(x, change=lambda number, maps: maps), whole)


def test_stages_are_the_encoders_own_modules(encoder):
    own = {id(p) for p in encoder.trunk.parameters()}
    assert {id(p) for stage in encoder.stages() for p in stage.parameters()} == own


def test_a_change_sees_every_stage_in_order_and_goes_on(encoder):
    encoder.eval()
    seen = []

    def change(number, maps):
        seen.append((number, *maps.shape))
        return maps * 0 if number == 4 else maps

    assert not encoder.embed(films(2), change=change).any()
    assert seen == [(1, 2, 64, 8, 8), (2, 2, 128, 4, 4), (3, 2, 256, 2, 2), (4, 2, 512, 1, 1)]
    assert encoder.embed(films(0), change=change).shape == (0, 512) and len(seen) == 4


def test_one_film_in_training_takes_the_running_statistics_stage_by_stage_too(encoder):
    encoder.train()
    before = encoder.trunk.bn1.running_mean.clone()
    encoder.embed(films(1), change=lambda number, maps: maps)
    assert torch.equal(encoder.trunk.bn1.running_mean, before) and encoder.trunk.training


def test_a_transformer_has_no_maps_and_says_what_to_do():
    with torch.device("meta"):
        encoder = CxrEncoder("vit_b_16", 3, input_size=32)
    for call in (encoder.stages, lambda: encoder.stage_widths):
        with pytest.raises(UsageError, match="feature maps of the film encoder, and --arch vit_b_16 has none") as error:
            call()
        assert error.value.hint.startswith("run first: fusionctl pretrain-cxr --arch resnet34")
