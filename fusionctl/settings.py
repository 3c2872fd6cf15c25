"""Every setting of every stage: its default, unit, source and help, in one place.

A stage's settings are a frozen dataclass. The command line, the environment, the TOML file, presets and manifests are
all derived from the fields below, so a new setting is one line here. Precedence: flag > environment
(`FUSIONCTL_<STAGE>_<NAME>`) > TOML (`[<stage>] name = value`) > preset > default.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from fusionctl.errors import UsageError

Task = Literal["mortality", "phenotyping"]
CxrTask = Literal["radiology", "mortality", "phenotyping"]
Protocol = Literal["paper", "legacy"]
Sensitivity = Literal["auto", "synthetic", "open", "credentialed"]
Fusion = Literal[
    "attention",
    "medfuse",
    "early",
    "joint",
    "late",
    "mmtm",
    "daft",
    "drfuse",
    "contrastive",
    "card",
    "ehr",
    "cxr",
    "trees",
    "logistic",
    "trees-film",
    "logistic-film",
]
EhrArch = Literal["lstm", "transformer", "decay"]
Loss = Literal["bce", "uncertainty", "uncertainty-reference", "focal", "balanced"]
CxrArch = Literal["resnet34", "resnet18", "resnet50", "densenet121", "vit_b_16"]
NoiseKind = Literal["additive", "zero-mean", "replace"]
Modality = Literal["both", "ehr", "cxr"]
Corruption = Literal["noise", "film-missing", "film-stale", "variables", "gap", "blur", "jpeg", "contrast", "units"]
Preset = Literal["paper", "small", "demo"]
_LARGEST_INT = 2**63 - 1  # that numpy and torch hold
SENSITIVITIES: tuple[str, ...] = get_args(Sensitivity)[1:]  # from the least to the most sensitive


PROTOCOL_HELP = "paper: what the paper's text says, done correctly; legacy: what the MedFuse-era code does"


def option(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Declare a setting: a dataclass field with its help text and the closed range of values that it allows."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """Settings of `extract`."""

    protocol: Protocol = option("paper", PROTOCOL_HELP)
    labels: Literal["chexpert", "negbio"] = option("chexpert", "labeller whose 14 radiology labels are read")
    sensitivity: Sensitivity = option("auto", "how freely results may be shown; auto: what the folders say")


@dataclass(frozen=True, kw_only=True)
class FilmsSettings:
    """Settings of `films`, which `preprocess` runs where its result is not there yet."""

    film_size: int = option(256, "side of the cached films in pixels (paper: 256)", low=32, high=2048)
    film_fit: Literal["squeeze", "pad", "crop"] = option(
        "squeeze", "to a square: both sides scaled, black bars added, or the middle of the longer side (reference code)"
    )
    clahe: bool = option(False, "equalise contrast locally (clip limit 2.0, 8 x 8 tiles)")
    clahe_backend: Literal["opencv", "skimage"] = option("opencv", "whose CLAHE (reference code: opencv)")
    max_bad_films: float = option(
        0.01, "share of unreadable films to treat as absent before it is an error", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """Settings of `preprocess`."""

    task: Task = option("mortality", "the outcome to predict")
    protocol: Protocol = option("paper", PROTOCOL_HELP)
    timestep: float = option(2.0, "grid step in hours (paper: 2)", low=0.05, high=48)
    window_hours: float = option(
        0.0, "hours of input; 0 = the task's own: 48 (mortality), the whole stay (phenotyping)", low=0, high=10_000
    )
    impute: Literal["previous", "normal", "zero"] = option(
        "previous", "what fills a gap: the last value seen (before the first: normal), a normal value, or zero"
    )
    available_at: Literal["charttime", "storetime"] = option(
        "charttime", "when a measurement may be used: once charted (as in the paper), or only once stored"
    )
    normaliser: Literal["standard", "robust"] = option(
        "standard", "statistics of the training rows: mean and sd (paper), or median and interquartile range / 1.349"
    )
    folds: int = option(0, "cross-validation by patient in this many folds; 0 = 70/10/20 (paper)", low=0, high=100)
    fold: int = option(0, "which fold is the test set; the next one is for validation", low=0, high=99)
    film_view: Literal["AP", "PA", "frontal", "any"] = option("AP", "views paired with a stay (paper: AP)")
    film_pick: Literal["last", "first", "nearest-end", "all"] = option(
        "last", "which of a stay's films (paper: last); all: the mean of their features"
    )
    film_window: str = option(
        "", "FROM:TO, hours since ICU admission that a film may be from (default: admission to the end of the input)"
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What the three training stages share. Values are the paper's (section V-A) or its reference code's."""

    epochs: int = option(50, "most epochs", low=1)
    patience: int = option(45, "stop after this many epochs without a better validation score", low=1)
    batch_size: int = option(16, "rows per step, of all processes together (paper: 16)", low=1)
    lr: float = option(1e-4, "learning rate of Adam", low=0)
    weight_decay: float = option(0.0, "weight decay, decoupled from the gradient (AdamW)", low=0)
    grad_clip: float = option(0.0, "largest gradient norm; 0 = no clipping", low=0)
    monitor: Literal["val_auroc", "val_auprc", "val_loss"] = option(
        "val_auroc", "what chooses the best epoch (reference code: AUROC)"
    )
    precision: Literal["auto", "float32", "bf16"] = option(
        "auto", "of training steps; bf16 is mixed precision, auto is bf16 on a GPU. Predictions are in float32"
    )
    compile: bool = option(False, "compile the encoders (torch.compile); worth it in long runs on a GPU")

    def training(self) -> dict[str, Any]:
        """The settings above, as fields of `loop.Course`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(TrainingSettings)}


@dataclass(frozen=True, kw_only=True)
class PretrainEhrSettings(TrainingSettings):
    """Settings of `pretrain-ehr`."""

    task: Task = option("mortality", "the outcome to predict")
    lr: float = option(3e-5, "learning rate of Adam (paper, mortality: 3e-5)", low=0)
    arch: EhrArch = option("lstm", "time-series encoder (paper: lstm); decay: GRU-D")
    hidden: int = option(256, "width of the encoder's layers (paper: 256)", low=1)
    layers: int = option(2, "layers of the transformer (lstm always has two, decay one)", low=1, high=24)
    heads: int = option(8, "attention heads of the transformer", low=1)
    dropout: float = option(0.3, "dropout between and after the layers (paper: 0.3)", low=0, high=0.99)
    pool: Literal["last", "mean", "attention"] = option(
        "last", "which of the last layer's states is the stay's feature: the last (paper), their mean, a weighted mean"
    )
    running: bool = option(False, "also read the mean, minimum and maximum of every value up to each step (paper: no)")
    since_seen: bool = option(False, "also read the time since each variable was last seen (paper: no)")
    summary: bool = option(False, "add a linear map of the whole stay's mean, extremes, ends and counts (paper: no)")
    input_dropout: float = option(0.0, "share of input columns hidden from a stay in training", low=0, high=0.99)


@dataclass(frozen=True, kw_only=True)
class PretrainCxrSettings(TrainingSettings):
    """Settings of `pretrain-cxr`."""

    task: CxrTask = option("radiology", "what is learnt: the 14 labels of the reports, or the outcome of the stay")
    uncertain: Literal["auto", "ignore", "zero", "one"] = option(
        "auto", "what a label -1 (uncertain) counts as; auto: ignore in protocol paper, zero in legacy"
    )
    lr: float = option(5e-4, "learning rate of Adam (paper: 5e-4)", low=0)
    arch: CxrArch = option("resnet34", "film encoder (paper: resnet34)")
    input_size: int = option(224, "side of the encoder's input in pixels (paper: 224)", low=32, high=1024)
    augment: float = option(1.0, "strength of the films' random changes in training; 0 = none", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class FuseSettings(TrainingSettings):
    """Settings of `fuse`."""

    task: Task = option("mortality", "the outcome to predict")
    fusion: Fusion = option("attention", "the model (fusionctl list fusions)")
    dropout: float = option(0.1, "dropout inside the fusion layers (PyTorch's default)", low=0, high=0.99)
    loss: Loss = option("bce", "what is minimised (fusionctl list losses)")
    loss_lr: float = option(7e-4, "learning rate of the uncertainty losses' variances (reference code: 7e-4)", low=0)
    film_dropout: float = option(0.0, "chance that a stay's films are hidden in a training step", low=0, high=0.99)
    absent: Literal["auto", "mask", "zero"] = option(
        "auto", "an absent film is left out (mask), or is zeros like any other; auto: zero in protocol legacy"
    )
    train_noise: float = option(
        0.0,
        "share of a stay's time steps and of its films' pixels with noise, in training and prediction (paper, Table 5)",
        low=0,
        high=1,
    )
    noise_kind: NoiseKind = option("additive", "how the noise of --train-noise is made; see robustness --kind")
    noise_modality: Modality = option("both", "what --train-noise corrupts")
    from_scratch: bool = option(False, "start from random encoders, built by the settings of the pretraining stages")
    contrast_epochs: int = option(10, "contrastive: epochs of its first phase, at most half of all", low=0)
    temperature: float = option(0.1, "contrastive: temperature of its loss (SimCLR: 0.1)", low=1e-4)
    card_steps: int = option(10, "card: steps of the diffusion for a sample (its authors: 1000)", low=2, high=1000)
    card_samples: int = option(20, "card: samples a stay (its authors: 100)", low=1)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of `evaluate`."""

    task: Task = option("mortality", "the outcome to predict")
    resamples: int = option(
        1000,
        "bootstrap resamples of patients (paper: 1000); no p is below 2 / (resamples + 1), times Holm's factor",
        low=1,
    )
    interval: Literal["auto", "percentile", "shifted", "basic", "bca"] = option(
        "auto",
        "95 % intervals: percentiles (as in the paper), shifted for their bias, mirrored (basic), or bias-corrected "
        "and accelerated; auto: shifted for AUPRC, percentiles for the rest and for differences",
    )
    compare: str = option(
        "",
        "comma-separated models to compare, each with each; the first is the reference (default: all with the first)",
    )
    threshold: float = option(0.5, "probability from which a prediction counts as positive (paper: 0.5)", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class CellSettings:
    """Settings of `cell`, one model under one corruption: `robustness` gives them."""

    task: Task = option("mortality", "the outcome to predict")
    corruption: Literal[Corruption, "clean"] = option("clean", "what is wrong with the input; clean: nothing")
    level: float = option(0.0, "severity", low=0, high=1)
    kind: Literal[NoiseKind, ""] = option("", "of noise")
    modality: Literal[Modality, ""] = option("", "what is corrupted, of what the model reads")


@dataclass(frozen=True, kw_only=True)
class RobustnessSettings:
    """Settings of `robustness`."""

    task: Task = option("mortality", "the outcome to predict")
    noise: str = option(
        "0.1:0.6", "levels: LOW:HIGH[:STEP] or a comma-separated list; shares from 0 to 1, of any corruption"
    )
    corruption: str = option(
        "noise", f"what is wrong with the input, comma-separated: {', '.join(get_args(Corruption))}"
    )
    kind: NoiseKind = option(
        "additive", "of noise: x + N(mean, sd) clipped (the paper's text), x + N(0, sd), or x := N(mean, sd)"
    )
    modality: str = option("both", "what noise corrupts, comma-separated: both, ehr (series alone), cxr (films alone)")
    train_on: Literal["clean", "noisy", "both"] = option(
        "clean", "models as they are, models trained anew on each level of noise (paper, Table 5), or both"
    )
    resamples: int = option(1000, "bootstrap resamples of patients (paper: 1000)", low=1)
    threshold: float = option(0.5, "probability from which a prediction counts as positive (paper: 0.5)", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Settings of `report`."""

    task: Task = option("mortality", "the outcome to predict")
    format: str = option("html,md", "what to write, comma-separated: html (the page), md, csv, latex (its tables)")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a stage runs. Only the seed is part of an artifact's identity: the rest must not change its content."""

    seed: int = 0
    jobs: int = 1
    device: str = "cpu"
    stage_to: Path | None = None
    progress: Callable[[str, int, int | None], None] = lambda label, done, total: None
    # What a stage keeps for its next run in the same process (opened data, loaded models); None: nothing is kept.
    kept: dict[Any, Any] | None = dataclasses.field(default=None, compare=False, repr=False)


def encoder_settings(settings: type[Any]) -> tuple[str, ...]:
    """Names of the settings of a pretraining stage that describe its encoder, not how that is trained."""
    other = {field.name for field in dataclasses.fields(TrainingSettings)} | {"task", "uncertain"}
    return tuple(field.name for field in dataclasses.fields(settings) if field.name not in other)


def check(settings: Any) -> None:
    """Check every value against its declared choices and range.

    Raises:
        UsageError: naming the option, the rule and the value received.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, flag = getattr(settings, field.name), "--" + field.name.replace("_", "-")
        choices = get_args(hints[field.name])
        if choices and value not in choices:
            raise UsageError(f"{flag} must be one of {', '.join(map(str, choices))}; got {value!r}")
        low, high = field.metadata["low"], field.metadata["high"]
        if isinstance(value, int) and value > _LARGEST_INT:
            raise UsageError(f"{flag} must be at most {_LARGEST_INT}; got {value}", hint="give a smaller number")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            too_low, too_high = low is not None and not value >= low, high is not None and not value <= high
            if too_low or too_high or not math.isfinite(value):
                rule = f"from {low}" + (f" to {high}" if high is not None else " up")
                raise UsageError(f"{flag} must be a number {rule}; got {value}")


def default_jobs() -> int:
    """Processors that this process may use: a Slurm job often owns fewer than the node has, torchrun starts several."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    own = os.environ.get("SLURM_CPUS_PER_TASK", "")  # not every cluster binds a task to its processors
    usable = min(usable, max(1, int(own))) if own.isdecimal() else usable
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, usable // max(1, int(beside))) if beside.isdecimal() else usable
