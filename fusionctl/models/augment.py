"""Cached films to the film encoder's input: resize, augment, crop, normalise.

What is random is drawn first, as plain numbers a film (`draw`), and then applied: the same draw on the same films gives
the same input. Flip, affine map and crop are one resampling, so a film is interpolated once, not three times.

There are two ways to apply a draw, which agree to less than a grey level: `on_device` takes a whole batch through
PyTorch's kernels, on the accelerator that it is on; `on_cpu` takes film by film through OpenCV's, which stay in the
processor's cache and are several times faster there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Grey = npt.NDArray[np.float32]  # (height, width) grey levels, 0 to 255

# Mean and standard deviation of ImageNet's channels (torchvision's reference transforms), as in the paper's code.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)
# The paper crops 224 of 256 pixels (section IV-C); other input sizes keep that share of the film.
CROP_SHARE = 224 / 256
# Ranges of the affine map at magnitude 1: rotation, translation and scale are those of MedFuse's code (RandomAffine:
# 45 degrees, scale 0.85 to 1.15, translate 0.15). The paper adds shearing without saying how much; 5 degrees is ours.
ROTATION_DEGREES = 45.0
SHEAR_DEGREES = 5.0
SCALE = 0.15
TRANSLATION = 0.15
FLIP_PROBABILITY = 0.5

# A film's channels are equal before they are normalised: (3, 1, 1) factor and summand of a grey level, 0 to 255.
_FACTOR = (1 / (255 * np.array(IMAGENET_SD)))[:, None, None].astype(np.float32)
_SUMMAND = (-np.array(IMAGENET_MEAN) / np.array(IMAGENET_SD))[:, None, None].astype(np.float32)


def prepare(
    films: Tensor, *, input_size: int, train: bool, magnitude: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Turn cached films into the encoder's input.

    Args:
        films: (P, 1, S, S) uint8.
        input_size: side of the result in pixels.
        train: augment and crop at random; otherwise crop the centre.
        magnitude: factor on every range of the augmentation; 0 is the same as `train=False`.
        generator: of the random numbers, on the CPU; None takes PyTorch's default one.

    Returns:
        (P, 3, input_size, input_size) float32, normalised by ImageNet's statistics, channels last in memory.
    """
    random = train and magnitude > 0
    parameters = draw(len(films), magnitude=magnitude, generator=generator) if random else None
    transform = on_cpu if films.device.type == "cpu" else on_device
    return transform(films, parameters, input_size=input_size)


def on_cpu(films: Tensor, parameters: Tensor | None, *, input_size: int) -> Tensor:
    """Prepare films one after another, on one thread; see `prepare`.

    Args:
        films: (P, 1, S, S) uint8 on the CPU.
        parameters: (P, 8) as from `draw`; None crops the centre.
        input_size: side of the result in pixels.
    """
    side = _side(input_size)
    maps = None if parameters is None else _pixel_maps(parameters, side=side, input_size=input_size)
    inputs = np.empty((len(films), input_size, input_size, 3), dtype=np.float32)
    channels = np.empty((3, input_size, input_size), dtype=np.float32)
    with _one_thread():
        for i, film in enumerate(films[:, 0].numpy()):
            resized = _resized(film.astype(np.float32), side)
            crop = _cropped(resized, None if maps is None else maps[i], input_size)
            np.add(np.multiply(crop, _FACTOR, out=channels), _SUMMAND, out=channels)
            cv2.merge(list(channels), dst=inputs[i])
    return torch.from_numpy(inputs).permute(0, 3, 1, 2)


def on_device(films: Tensor, parameters: Tensor | None, *, input_size: int) -> Tensor:
    """Prepare a batch on the device that holds it; arguments as of `on_cpu`."""
    resized = resize(films, _side(input_size))
    if parameters is None:
        cropped = centre_crop(resized, input_size)
    else:
        cropped = apply(resized, parameters, input_size=input_size)
    mean = torch.tensor(IMAGENET_MEAN, device=films.device).view(1, 3, 1, 1)
    sd = torch.tensor(IMAGENET_SD, device=films.device).view(1, 3, 1, 1)
    return ((cropped - mean) / sd).contiguous(memory_format=torch.channels_last)


def _side(input_size: int) -> int:
    """Side of the film from which the input is cropped."""
    return round(input_size / CROP_SHARE)


def _resized(film: Grey, side: int) -> Grey:
    """(S, S) to (side, side): area average, or bilinear where it grows, as `resize`."""
    if len(film) == side:
        return film
    method = cv2.INTER_AREA if len(film) > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(film, (side, side), interpolation=method), dtype=np.float32)


def _cropped(film: Grey, pixel_map: npt.NDArray[np.float64] | None, size: int) -> Grey:
    """(side, side) to (size, size): the centre, or by a map from the crop's pixels to the film's."""
    if pixel_map is None:
        first = (len(film) - size) // 2
        return film[first : first + size, first : first + size]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(film, pixel_map, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(warped, dtype=np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own beside PyTorch's: together they would exceed those asked for."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def resize(films: Tensor, side: int) -> Tensor:
    """(P, 1, S, S) uint8 -> (P, 1, side, side) float32 in 0..1; shrinks by averaging areas, enlarges bilinearly."""
    scaled = films.float() / 255
    if films.shape[-1] == side or not len(films):
        return scaled if films.shape[-1] == side else scaled.new_zeros(0, 1, side, side)
    if films.shape[-1] > side:
        return functional.interpolate(scaled, size=(side, side), mode="area")
    return functional.interpolate(scaled, size=(side, side), mode="bilinear", align_corners=False)


def centre_crop(films: Tensor, side: int) -> Tensor:
    """(P, C, S, S) -> (P, C, side, side)."""
    first = (films.shape[-1] - side) // 2
    return films[..., first : first + side, first : first + side]


def draw(n: int, *, magnitude: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Draw the parameters of n films.

    Args:
        n: number of films P.
        magnitude: factor on the ranges; the crop's range does not grow above 1.
        generator: of the random numbers, on the CPU; None takes PyTorch's default one.

    Returns:
        (n, 8) float32 on the CPU: flip (1 or 0), rotation and shear (radians), scale (factor), translation in x and y
        (shares of the film's side), crop in x and y (-1 to 1: first to last possible position).
    """
    uniform = torch.rand(n, 8, generator=generator) * 2 - 1
    flip = (uniform[:, 0] < 2 * FLIP_PROBABILITY - 1).float()
    rotation = uniform[:, 1] * math.radians(ROTATION_DEGREES) * magnitude
    shear = uniform[:, 2] * math.radians(SHEAR_DEGREES) * magnitude
    scale = 1 + uniform[:, 3] * SCALE * magnitude
    translation = uniform[:, 4:6] * TRANSLATION * magnitude
    crop = uniform[:, 6:8] * min(1.0, magnitude)
    return torch.cat([torch.stack([flip, rotation, shear, scale], dim=1), translation, crop], dim=1)


def apply(films: Tensor, parameters: Tensor, *, input_size: int) -> Tensor:
    """Flip, map and crop films by drawn parameters; what comes from outside a film is black.

    Args:
        films: (P, 1, S, S) float32.
        parameters: (P, 8) as from `draw`.
        input_size: side of the crop, at most S.

    Returns:
        (P, 1, input_size, input_size).
    """
    if not len(films):
        return films.new_zeros(0, films.shape[1], input_size, input_size)
    theta = _crop_to_film(parameters, side=films.shape[-1], input_size=input_size).float().to(films.device)
    grid = functional.affine_grid(theta, [len(films), films.shape[1], input_size, input_size], align_corners=False)
    return functional.grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _crop_to_film(parameters: Tensor, *, side: int, input_size: int) -> Tensor:
    """(P, 2, 3) float64 maps from the crop's coordinates to the film's, both -1..1 from edge to edge.

    A pixel of the crop is moved to its place on the mapped film, then back through translation and linear map (the
    inverse of rotation x shear x scale), then through the flip.
    """
    flip, rotation, shear, scale, shift_x, shift_y, crop_x, crop_y = parameters.double().unbind(dim=1)
    cos, sin, zero, one = rotation.cos(), rotation.sin(), torch.zeros_like(shear), torch.ones_like(shear)
    inverse_rotation = torch.stack([cos, sin, -sin, cos], dim=1).view(-1, 2, 2)
    inverse_shear = torch.stack([one, -shear.tan(), zero, one], dim=1).view(-1, 2, 2)
    linear = inverse_shear @ inverse_rotation / scale[:, None, None]
    room = (side - input_size) / side  # the crop's centre moves this far, in half sides of the film
    centre = torch.stack([crop_x * room - 2 * shift_x, crop_y * room - 2 * shift_y], dim=1)
    theta = torch.cat([linear * (input_size / side), linear @ centre[:, :, None]], dim=2)
    theta[:, 0] *= (1 - 2 * flip)[:, None]
    return theta


def _pixel_maps(parameters: Tensor, *, side: int, input_size: int) -> npt.NDArray[np.float64]:
    """(P, 2, 3) the same maps for pixels counted from 0 at the centre of the first, as OpenCV counts them."""
    theta = _crop_to_film(parameters, side=side, input_size=input_size).numpy()
    linear, shift = theta[:, :, :2], theta[:, :, 2]
    # Pixel i of n lies at (2 i + 1) / n - 1 between the edges.
    first = side / 2 * (shift + 1 + linear.sum(axis=2) * (1 / input_size - 1)) - 0.5
    return np.concatenate([linear * (side / input_size), first[:, :, None]], axis=2)
