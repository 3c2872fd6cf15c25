"""Procedural chest films: thorax, lungs, ribs and heart, and the shadows that disease puts on them.

Only additions, products and comparisons on float32 arrays are used, no transcendental functions, so that the pixels do
not depend on the vector instructions of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 384, 320
JPEG_QUALITY = 90
Plane = NDArray[np.float32]

# The anatomy is smooth: it is drawn at half the resolution and enlarged; only the grain has full resolution.
_V, _U = np.meshgrid(
    np.linspace(-1.2, 1.2, ROWS // 2, dtype=np.float32),
    np.linspace(-1.0, 1.0, COLUMNS // 2, dtype=np.float32),
    indexing="ij",
)


@dataclass(frozen=True)
class Findings:
    """What the film shows, as amounts from 0 (none) to about 1.5 (gross).

    Args:
        consolidation: strength of the patchy shadows.
        effusion: height of the fluid in the pleural space.
        edema: haze around the hila.
        heart: width of the heart relative to a normal one (1.0).
        device: whether a line or tube is seen.
    """

    consolidation: float
    effusion: float
    edema: float
    heart: float
    device: bool


def render(findings: Findings, view: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a film.

    Args:
        findings: amounts of disease.
        view: ViewPosition; "LATERAL" and "LL" give a side view, everything else a frontal one.
        rng: source of position, exposure and grain.

    Returns:
        Grey picture (ROWS, COLUMNS), white is dense.
    """
    dx, dy = rng.uniform(-0.07, 0.07, 2)
    scale, tilt = rng.uniform(0.94, 1.08), rng.uniform(-0.05, 0.05)
    u = ((_U - np.float32(dx)) + _V * np.float32(tilt)) * np.float32(scale)
    v = ((_V - np.float32(dy)) - _U * np.float32(tilt)) * np.float32(scale)
    draw = _lateral if view in ("LATERAL", "LL") else _frontal
    picture = draw(u, v, findings, rng) * np.float32(rng.uniform(0.95, 1.05)) + np.float32(rng.uniform(-5.0, 5.0))
    half = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    grey = cv2.resize(half, (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR_EXACT)
    if findings.device:
        _add_device(grey, rng)
    cv2.putText(grey, "L", (COLUMNS - 34, 34), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 245, 2, cv2.LINE_AA)
    return _grain(grey, rng)


def encode(grey: NDArray[np.uint8]) -> bytes:
    """JPEG bytes of a grey picture."""
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(data)


def _frontal(u: Plane, v: Plane, findings: Findings, rng: np.random.Generator) -> Plane:
    side = np.abs(u)
    body = np.maximum(_ellipse(u, v, 0, 0.8, 1.5, 1.85, 9), _ellipse(u, v, 0, -0.9, 0.3, 0.9, 6))
    picture = body * np.float32(150) + np.float32(12)
    picture += _ramp((np.float32(0.16) - side) * np.float32(10)) * body * np.float32(45)  # mediastinum and spine
    picture -= _ramp((np.float32(0.05) - side) * np.float32(25)) * _ramp((np.float32(-0.55) - v) * 6) * np.float32(40)
    lungs = np.maximum(_ellipse(u, v, -0.44, -0.05, 0.36, 0.84, 5), _ellipse(u, v, 0.45, -0.05, 0.35, 0.84, 5))
    from_hilum = side - np.float32(0.43)
    dome = np.float32(0.5) + from_hilum * from_hilum * np.float32(1.2)
    lungs = lungs * _ramp((dome - v) * np.float32(9))
    aerated = lungs - lungs * _heart(u, v, findings.heart)
    picture -= aerated * np.float32(95)
    picture += _ribs(side, v) * body * np.float32(15)
    picture += aerated * _shadows(u, v, findings, rng, sides=(-1.0, 1.0))
    return picture


def _lateral(u: Plane, v: Plane, findings: Findings, rng: np.random.Generator) -> Plane:
    body = _ellipse(u, v, 0, 0.3, 0.85, 1.5, 6)
    picture = body * np.float32(140) + np.float32(12)
    lungs = _ellipse(u, v, 0.05, -0.1, 0.55, 0.82, 5) * _ramp((np.float32(0.55) - v + u * np.float32(0.3)) * 8)
    picture -= lungs * np.float32(80)
    heart = _ellipse(u, v, -0.25, 0.3, 0.3 * findings.heart, 0.36, 3)
    picture += heart * lungs * np.float32(65)
    vertebra = np.abs((v * np.float32(5.5)) % np.float32(1) - np.float32(0.5))
    spine = _ramp((np.float32(0.12) - np.abs(u - np.float32(0.55) - v * v * np.float32(0.1))) * 12)
    picture += spine * body * (np.float32(25) + vertebra * np.float32(60))
    picture += (lungs - lungs * heart) * _shadows(u, v, findings, rng, sides=(0.0,))
    return picture


def _shadows(u: Plane, v: Plane, findings: Findings, rng: np.random.Generator, *, sides: tuple[float, ...]) -> Plane:
    """Brightness that consolidation, edema and effusion add to aerated lung."""
    haze = _bump(np.abs(u), v, 0.2, 0.0, 0.75, 0.9) * np.float32(60 * findings.edema)
    for _ in range(int(rng.integers(2, 5))):
        centre_u, centre_v = rng.uniform(0.25, 0.6) * rng.choice((-1.0, 1.0)), rng.uniform(-0.5, 0.45)
        size = rng.uniform(0.16, 0.36)
        haze += _bump(u, v, centre_u, centre_v, size, size * 1.2) * np.float32(60 * findings.consolidation)
    for sign in sides:
        level = 0.62 - 0.5 * findings.effusion * rng.uniform(0.4, 1.0)
        meniscus = np.float32(level) - np.abs(u - np.float32(0.38 * sign)) * np.float32(0.5)
        fluid = _ramp((v - meniscus) * np.float32(8))
        if sign:  # each half of the chest has its own level
            fluid = fluid * _ramp(u * np.float32(sign * 50))
        haze += fluid * np.float32(80 * min(1.0, 2 * findings.effusion))
    shown: Plane = np.minimum(haze, np.float32(105))
    return shown


def _heart(u: Plane, v: Plane, width: float) -> Plane:
    left = _ellipse(u, v, 0.18, 0.27, 0.33 * width, 0.36, 3)
    return np.maximum(left, _ellipse(u, v, -0.06, 0.22, 0.22 * width, 0.32, 3))


def _ribs(side: Plane, v: Plane) -> Plane:
    """Posterior ribs: seven bright arcs that fall towards the side."""
    phase = (v + side * side * np.float32(-0.55) + np.float32(1.3)) * np.float32(4.6)
    arc = np.abs(phase % np.float32(1) - np.float32(0.5)) * np.float32(2)
    inside = (
        _ramp((side - np.float32(0.14)) * 12) * _ramp((np.float32(0.62) - v) * 6) * _ramp((v + np.float32(0.95)) * 6)
    )
    ribs: Plane = _ramp((np.float32(0.45) - arc) * np.float32(4)) * inside
    clavicle = np.abs(v + np.float32(0.78) + side * np.float32(0.18))
    return ribs + _ramp((np.float32(0.045) - clavicle) * 40) * _ramp((side - np.float32(0.1)) * 10) * np.float32(1.6)


def _add_device(grey: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw a central line from the neck and, half of the time, electrodes."""
    neck = int(rng.integers(110, 135))
    points = np.array([[neck, 0], [neck + 8, 70], [neck + 22, 130], [neck + 24, 190]], dtype=np.int32)
    cv2.polylines(grey, [points], False, 225, 2, cv2.LINE_AA)
    if rng.random() < 0.5:
        for x, y in zip(rng.integers(60, 260, 3), rng.integers(90, 300, 3), strict=True):
            cv2.circle(grey, (int(x), int(y)), 5, 215, -1, cv2.LINE_AA)


def _grain(grey: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add grain of a triangular distribution (sd about 6.5 grey levels), saturating at 0 and 255."""
    grain = rng.integers(0, 16, (2, *grey.shape), dtype=np.uint8).sum(axis=0, dtype=np.uint8)
    return np.asarray(cv2.subtract(cv2.add(grey, grain), np.full_like(grey, 15)), dtype=np.uint8)


def _ellipse(u: Plane, v: Plane, cu: float, cv: float, ru: float, rv: float, sharp: float) -> Plane:
    """1 inside an ellipse, 0 outside, with an edge that is soft in proportion to 1 / sharp."""
    return _ramp(_inside(u, v, cu, cv, ru, rv) * np.float32(sharp))


def _bump(u: Plane, v: Plane, cu: float, cv: float, ru: float, rv: float) -> Plane:
    """A smooth hill of height 1 that ends at the border of an ellipse."""
    q = np.maximum(_inside(u, v, cu, cv, ru, rv), np.float32(0))
    return q * q


def _inside(u: Plane, v: Plane, cu: float, cv: float, ru: float, rv: float) -> Plane:
    a, b = (u - np.float32(cu)) * np.float32(1 / ru), (v - np.float32(cv)) * np.float32(1 / rv)
    return np.float32(1) - a * a - b * b


def _ramp(x: Plane) -> Plane:
    return np.clip(x, np.float32(0), np.float32(1))
