"""Bedside signals of the synthetic stays as dense arrays: stays x hours."""

from __future__ import annotations

import numpy as np

from fusionctl.data.synth import items as items
from fusionctl.data.synth.story import Bools, Floats, Latents, sigmoid

AR = 0.7  # correlation of neighbouring measurements of a stay
POUND_KG, INCH_CM = 0.453592, 2.54


def measure(signal: items.Signal, course: Floats, rng: np.random.Generator) -> Floats:
    """One variable of S stays at T times from their severity (S, T): the equation of `Signal`."""
    noise = rng.standard_normal(course.shape)
    for t in range(1, course.shape[1]):
        noise[:, t] = AR * noise[:, t - 1] + (1 - AR * AR) ** 0.5 * noise[:, t]
    offset = signal.offset_sd * rng.standard_normal((len(course), 1))
    return np.clip(signal.base + signal.gain * course + offset + signal.noise_sd * noise, signal.low, signal.high)


def vital_signs(latents: Latents, hours: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Every bedside signal of S stays at T hours since intime, each (S, T)."""
    course = latents.course(hours)
    signs = {name: measure(signal, course, rng) for name, signal in items.SIGNALS.items()}
    signs["diastolic"] = np.minimum(signs["diastolic"], signs["systolic"] - 12)
    signs["mean"] = (signs["systolic"] + 2 * signs["diastolic"]) / 3 + rng.normal(0, 2, course.shape)
    for part, (best, thresholds) in items.GCS_THRESHOLDS.items():
        signs[part] = best - np.stack([signs["coma"] > threshold for threshold in thresholds]).sum(axis=0)
    slow = rng.random(course.shape) < sigmoid(course - 2)
    other_spelling = rng.random(course.shape) < 0.1  # codes 2 and 3
    signs["refill"] = slow + 2.0 * other_spelling
    return signs


def add_other_units(
    signs: dict[str, Floats], hours: Floats, female: Bools, ventilated: Bools, rng: np.random.Generator
) -> None:
    """Add body size, the other units of a signal, and FiO2 and verbal response as they are written down.

    Args:
        signs: arrays (S, T) by name, as `vital_signs` returns them; changed in place.
        hours: hours since intime, (T,).
        female: sex, (S,).
        ventilated: whether the patient is intubated, (S, 1).
        rng: source of body size and of the charting habits.
    """
    n, shape = len(female), signs["mean"].shape
    weight = np.clip(rng.normal(82, 19, (n, 1)), 38, 190) + 0.02 * np.maximum(hours, 0)[None, :]
    height = np.where(female, 162, 176)[:, None] + rng.normal(0, 7, (n, 1)) + np.zeros(shape)
    percent = np.round(signs["fio2"] * 20) * 5
    signs |= {
        "temperature_f": signs["temperature"] * 1.8 + 32,
        "venous_ph": signs["ph"] - 0.03,
        "weight": weight,
        "weight_lb": weight / POUND_KG,
        "height": height,
        "height_in": height / INCH_CM,
        "fio2_charted": np.where(rng.random(shape) < 0.04, percent / 100, percent),
        "verbal": np.where(ventilated, float(items.ETT_CODE), signs["verbal"]),
    }
