"""Films to inputs: the draw can be replayed, the map is the one that is said."""

import math

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from fusionctl.models import augment

FLIP, ROTATION, SHEAR, SCALE, SHIFT_X, SHIFT_Y, CROP_X, CROP_Y = range(8)


@pytest.fixture
def films():
    """Smooth films, so that two ways of interpolating agree."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 64), torch.linspace(0, 5, 64), indexing="ij")
    waves = torch.stack([torch.sin(x) * torch.cos(y), torch.sin(x + y)])[:, None]
    return ((waves + 1) * 127).to(torch.uint8)


def drawn(**changes):
    parameters = torch.zeros(2, 8)
    parameters[:, SCALE] = 1
    for name, value in changes.items():
        parameters[:, globals()[name]] = value
    return parameters


def test_a_draw_replays_bit_for_bit_and_another_differs(films):
    def made(seed):
        generator = torch.Generator().manual_seed(seed)
        return augment.prepare(films, input_size=56, train=True, generator=generator)

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))


def test_ranges_of_the_draw():
    parameters = augment.draw(4000, generator=torch.Generator().manual_seed(0)).numpy()
    assert set(parameters[:, FLIP]) == {0.0, 1.0} and 0.45 < parameters[:, FLIP].mean() < 0.55
    highest = np.abs(parameters - drawn()[0].numpy()).max(axis=0)
    expected = [1, math.radians(45), math.radians(5), 0.15, 0.15, 0.15, 1, 1]
    assert (highest <= np.array(expected) + 1e-6).all() and (highest > 0.95 * np.array(expected)).all()
    half = augment.draw(4000, magnitude=0.5, generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(half[:, ROTATION], parameters[:, ROTATION] / 2, rtol=1e-6)


def test_nothing_drawn_is_the_centre_crop(films):
    scaled = films.float() / 255
    got = augment.apply(scaled, drawn(), input_size=56)
    torch.testing.assert_close(got, augment.centre_crop(scaled, 56), rtol=0, atol=1e-5)


def test_crop_reaches_both_corners(films):
    scaled = films.float() / 255
    first = augment.apply(scaled, drawn(CROP_X=-1, CROP_Y=-1), input_size=56)
    torch.testing.assert_close(first, scaled[..., :56, :56], rtol=0, atol=1e-5)
    last = augment.apply(scaled, drawn(CROP_X=1, CROP_Y=1), input_size=56)
    torch.testing.assert_close(last, scaled[..., 8:, 8:], rtol=0, atol=1e-5)


def test_flip_is_left_to_right_and_comes_before_the_map(films):
    scaled = films.float() / 255
    parameters = drawn(FLIP=1, CROP_X=-1, SHIFT_X=0.0)
    got = augment.apply(scaled, parameters, input_size=56)
    torch.testing.assert_close(got, scaled.flip(-1)[..., 4:60, :56], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shear", [0.0, 10.0])
def test_affine_map_agrees_with_torchvision(films, shear):
    scaled = films.float() / 255
    parameters = drawn(
        ROTATION=math.radians(20), SHEAR=math.radians(-shear), SCALE=1.1, SHIFT_X=4 / 64, SHIFT_Y=-2 / 64
    )
    got = augment.apply(scaled, parameters, input_size=64)
    expected = reference.affine(
        scaled,
        angle=20,
        translate=[4, -2],
        scale=1.1,
        shear=[shear, 0.0],
        interpolation=reference.InterpolationMode.BILINEAR,
    )
    inner = (..., slice(16, 48), slice(16, 48))
    torch.testing.assert_close(got[inner], expected[inner], rtol=0, atol=0.005)


def smooth(n, side, seed=0):
    """Films of a few slow waves: what two ways of interpolating must see alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(2, 9, (n, 3))]
    return torch.from_numpy(((np.stack(waves) + 1) * 127).astype(np.uint8))[:, None]


def grey_levels(inputs):
    mean, sd = torch.tensor(augment.IMAGENET_MEAN), torch.tensor(augment.IMAGENET_SD)
    return (inputs.permute(0, 2, 3, 1) * sd + mean) * 255


@pytest.mark.parametrize(
    ("side", "mean", "most"),
    [(256, 0.5, 3), (110, 1e-3, 0.02), (96, 1e-3, 0.02)],  # PyTorch's area average counts whole pixels only
    ids=["shrunk", "as it is", "enlarged"],
)
@pytest.mark.parametrize("train", [True, False])
def test_the_way_of_the_cpu_agrees_with_that_of_the_device(side, mean, most, train):
    films = smooth(6, side)
    parameters = augment.draw(6, generator=torch.Generator().manual_seed(3)) if train else None
    one, other = (way(films, parameters, input_size=96) for way in (augment.on_cpu, augment.on_device))
    assert one.shape == other.shape == (6, 3, 96, 96) and one.dtype == other.dtype == torch.float32
    difference = (grey_levels(one) - grey_levels(other)).abs()
    assert difference.mean(dim=(1, 2, 3)).max() < mean and difference.max() < most


@pytest.mark.parametrize("way", [augment.on_cpu, augment.on_device])
def test_inputs_are_channels_last_and_grey(way):
    inputs = way(smooth(3, 64), augment.draw(3), input_size=56)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    levels = grey_levels(inputs)
    torch.testing.assert_close(levels[..., :1].expand_as(levels), levels, rtol=0, atol=1e-3)


def test_on_the_cpu_a_film_does_not_depend_on_its_batch_or_on_the_threads():
    films, parameters = smooth(3, 256), augment.draw(3, generator=torch.Generator().manual_seed(0))
    together = augment.on_cpu(films, parameters, input_size=96)
    before, threads = cv2.getNumThreads(), torch.get_num_threads()
    try:
        cv2.setNumThreads(2)
        torch.set_num_threads(2)
        assert torch.equal(augment.on_cpu(films[1:2], parameters[1:2], input_size=96), together[1:2])
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
        torch.set_num_threads(threads)


def test_a_film_that_is_a_view_into_an_array():
    """Batches come from a memory map; a film may lie in it in any way."""
    wide = smooth(2, 256)
    views = wide[..., ::2, ::2]
    torch.testing.assert_close(
        augment.on_cpu(views, None, input_size=112), augment.on_cpu(views.clone(), None, input_size=112)
    )


def test_evaluation_is_centre_crop_and_imagenet_normalisation():
    grey = torch.full((1, 1, 256, 256), 255, dtype=torch.uint8)
    got = augment.prepare(grey, input_size=96, train=False)
    assert got.shape == (1, 3, 96, 96)
    expected = (1 - torch.tensor(augment.IMAGENET_MEAN)) / torch.tensor(augment.IMAGENET_SD)
    torch.testing.assert_close(got, expected.view(1, 3, 1, 1).expand_as(got).contiguous())
    torch.testing.assert_close(got, augment.prepare(grey, input_size=96, train=True, magnitude=0))


def test_resizing_averages_areas():
    films = torch.zeros(1, 1, 256, 256, dtype=torch.uint8)
    films[..., ::2] = 200
    small = augment.resize(films, 128)
    torch.testing.assert_close(small, torch.full_like(small, 100 / 255))
    assert augment.resize(films, 512).shape[-1] == 512


@pytest.mark.parametrize("train", [True, False])
def test_no_films(train):
    empty = torch.zeros(0, 1, 256, 256, dtype=torch.uint8)
    assert augment.prepare(empty, input_size=96, train=train).shape == (0, 3, 96, 96)
