"""Cached films to the film encoder's input: resize, augment, crop, normalise, for a whole batch on its device.

What is random is drawn first, as plain numbers a film (`draw`), and then applied (`apply`): the same draw on the same
films gives the same input. Flip, affine map and crop are one resampling, so a film is interpolated once, not three
times.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

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
        (P, 3, input_size, input_size) float32, normalised by ImageNet's statistics.
    """
    resized = resize(films, round(input_size / CROP_SHARE))
    if train and magnitude > 0:
        cropped = apply(resized, draw(len(films), magnitude=magnitude, generator=generator), input_size=input_size)
    else:
        cropped = centre_crop(resized, input_size)
    mean = torch.tensor(IMAGENET_MEAN, device=films.device).view(1, 3, 1, 1)
    sd = torch.tensor(IMAGENET_SD, device=films.device).view(1, 3, 1, 1)
    return ((cropped - mean) / sd).contiguous(memory_format=torch.channels_last)


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
    theta = _crop_to_film(parameters, side=films.shape[-1], input_size=input_size).to(films.device)
    grid = functional.affine_grid(theta, [len(films), films.shape[1], input_size, input_size], align_corners=False)
    return functional.grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _crop_to_film(parameters: Tensor, *, side: int, input_size: int) -> Tensor:
    """(P, 2, 3) maps from the crop's coordinates to the film's, both -1..1 from edge to edge.

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
    return theta.float()
