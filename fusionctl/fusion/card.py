"""CARD, the diffusion classifier, on both modalities: predictions are sampled, so that they come with their spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionctl import distributed
from fusionctl.data.batch import Batch
from fusionctl.fusion.films import by_row, features_of
from fusionctl.fusion.heads import rest
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

# Steps of the diffusion and its linear schedule of variances (Han, Zheng and Zhou, NeurIPS 2022, and their code).
STEPS = 1000
FIRST_BETA, LAST_BETA = 1e-4, 0.02
# Their code draws one step and one noise a row. The noise network is small beside the encoders, so more cost little and
# it needs fewer epochs; how many is ours. Even, because steps are drawn in opposite pairs (t, T - 1 - t), as there.
DRAWS = 8
# They go back through all 1000 steps, for 100 samples. Ten steps of the deterministic kind (Song, Meng and Ermon,
# Denoising Diffusion Implicit Models, ICLR 2021) and 20 samples are 500 times less work: less than a minute for 10,000
# stays on one core, beside the encoders' own time.
SAMPLED_STEPS = 10
SAMPLES = 20
SEED = 0x43415244  # of the samples
SOFTNESS = 0.02  # see `_probability`


class Card(nn.Module):
    """A prior network's probabilities, and a network that denoises labels from around them.

    The prior network f is a linear head on both encoders' features, side by side. A label y in {0, 1} diffuses to
    N(f(x), 1): y_t = sqrt(a_t) y + (1 - sqrt(a_t)) f(x) + sqrt(1 - a_t) noise. `NoiseNetwork` is taught to tell the
    noise from y_t, t, f(x) and the features (`aux_loss`, the mean squared error). Each of K labels diffuses on its own
    noise, and the networks see all K at once.

    In training mode the logits are f's, so that the task's loss teaches f and the encoders; the noise network's loss
    does not reach them. (The authors train f first and freeze it. Here the encoders come pretrained, and both learn
    side by side, which the authors' code offers too.)

    In evaluation mode labels are sampled: the logits are those of the mean over the samples of a stay, `spread` is
    their standard deviation. A stay's samples start from noise that is drawn from its row in samples.parquet alone:
    same row and weights, same prediction, whatever else is in the batch.

    A stay without a film has zeros in place of the film's feature, whatever `absent` says; nothing is put through the
    film encoder. Of several films, the mean of their features. The encoders' own heads are part of the model, not of
    the prediction.

    With ResNet-34, 256 features of the series and one label these are 23,260,753 parameters; the paper has 52,180,932,
    for one label and for 25. A second set of encoders in the noise network, as the authors' code has for small images,
    would bring 22,153,024; here it reads the prior network's features, as in their code for ImageNet.

    Args:
        ehr: encoder of the series.
        cxr: encoder of the films.
        n_outputs: labels K.
        options: `card_steps`, the steps of the diffusion that a sample visits (default 10, 2 to 1000), and
            `card_samples`, samples a stay (default 20).

    Raises:
        ValueError: an option breaks its rule.
    """

    modalities = ("ehr", "cxr")
    needs_film = False
    kept: Tensor  # (STEPS,) a_t: what of a label's variance is left after each step

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.n_steps = int(options.get("card_steps", SAMPLED_STEPS))
        self.n_samples = int(options.get("card_samples", SAMPLES))
        if not 2 <= self.n_steps <= STEPS or self.n_samples < 1:
            raise ValueError(
                f"card_steps must be from 2 to {STEPS} and card_samples at least 1; "
                f"got {self.n_steps} and {self.n_samples}"
            )
        self.ehr, self.cxr = ehr, cxr
        rest(ehr, cxr)
        self.classifier = nn.Linear(ehr.dim + cxr.dim, n_outputs)
        self.noise = NoiseNetwork(ehr.dim + cxr.dim, ehr.dim, n_outputs)
        betas = torch.linspace(FIRST_BETA, LAST_BETA, STEPS, dtype=torch.float64)
        self.register_buffer("kept", (1 - betas).cumprod(dim=0).float(), persistent=False)

    def forward(self, batch: Batch) -> Output:
        """In training the prior network's logits (B, K) and the noise network's loss; else what is sampled."""
        film, stays = features_of(self.cxr, batch)
        series = self.ehr.features(batch.series, batch.lengths)
        features = torch.cat([series, by_row(film, stays, len(series))], dim=1)
        logits = self.classifier(features)
        features, prior = features.detach(), logits.detach().float().sigmoid()
        if self.training:
            return Output(logits, aux_loss=self._noise_loss(features, prior, batch.labels))
        start = starts(batch.rows, n_samples=self.n_samples, n_outputs=logits.shape[1]).to(logits.device)
        sampled = _probability(self._sample(features, prior, start))
        return Output(sampled.mean(dim=1).logit(eps=1e-6), spread=sampled.std(dim=1, correction=0))

    def _noise_loss(self, features: Tensor, prior: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of the noise told, over the known labels.

        Args:
            features: (B, D).
            prior: (B, K) f(x).
            labels: (B, K) 0, 1 or NaN.
        """
        known = ~labels.isnan()
        clean = torch.where(known, labels, prior)  # f(x) stands for what is unknown: it says nothing new
        t = torch.randint(STEPS, (DRAWS // 2, len(labels)), device=labels.device)
        t = torch.cat([t, STEPS - 1 - t])
        noise = torch.randn(DRAWS, *labels.shape, device=labels.device)
        y = self._diffused(clean, prior, noise, t)
        told = self.noise(y, prior.expand_as(noise), t, self.noise.encode(features))
        error = ((noise - told.float()) ** 2).mean(dim=0)
        return torch.where(known, error, 0.0).sum() / distributed.current().share_of(known.sum())

    def _diffused(self, clean: Tensor, prior: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Labels after t steps."""
        kept = self.kept[t][..., None]
        return kept.sqrt() * clean + (1 - kept.sqrt()) * prior + (1 - kept).sqrt() * noise

    @torch.no_grad()
    def _sample(self, features: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
        """Labels, from noise, by a few deterministic steps.

        On the way a label is kept between 0 and 1: at the first steps next to nothing of it is left, and the least
        error of the noise would throw it far off.

        Args:
            features: (B, D).
            prior: (B, K) f(x).
            noise: (B, S, K) standard normal.

        Returns:
            (B, S, K) near 0 and 1, unbounded.
        """
        encoded, prior = self.noise.encode(features)[:, None], prior[:, None].expand_as(noise)
        times = torch.linspace(STEPS - 1, 0, self.n_steps, device=noise.device).round().long()
        label = y = prior + noise  # nothing of the label is left at the first step, so it does not matter
        for i, t in enumerate(times):
            kept = self.kept[t]
            told = self.noise(y, prior, t.expand(y.shape[:2]), encoded).float()
            label = (y - (1 - kept.sqrt()) * prior - (1 - kept).sqrt() * told) / kept.sqrt()
            if i + 1 < len(times):
                label = label.clamp(0, 1)
                told = (y - kept.sqrt() * label - (1 - kept.sqrt()) * prior) / (1 - kept).sqrt()
                y = self._diffused(label, prior, told, times[i + 1].expand(y.shape[:2]))
        return label


class NoiseNetwork(nn.Module):
    """Tells the noise in diffused labels, in three layers.

    As in the authors' code: labels and f(x) go in, the first layer's result is multiplied by the encoded features, and
    each layer's by an embedding of the step. Their network for small images has batch normalisation, where layer
    normalisation stands here: a batch may be one stay.

    Args:
        n_features: width D of the features.
        width: of the layers.
        n_outputs: labels K.
    """

    def __init__(self, n_features: int, width: int, n_outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(n_features, width), nn.LayerNorm(width))
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in (2 * n_outputs, width, width))
        self.steps = nn.ModuleList(nn.Embedding(STEPS, width, _weight=torch.rand(STEPS, width)) for _ in self.layers)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.layers)
        self.last = nn.Linear(width, n_outputs)

    def encode(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, width), the same at all steps and samples of a stay."""
        return torch.as_tensor(self.features(features))

    def forward(self, y: Tensor, prior: Tensor, t: Tensor, encoded: Tensor) -> Tensor:
        """The noise.

        Args:
            y: (..., K) labels after t steps.
            prior: (..., K) f(x).
            t: (...) steps, from 0.
            encoded: features from `encode`, that broadcast to (..., width).

        Returns:
            (..., K).
        """
        x = torch.cat([y, prior], dim=-1)
        for i, (layer, step, norm) in enumerate(zip(self.layers, self.steps, self.norms, strict=True)):
            x = functional.softplus(norm(layer(x) * step(t)))
            x = x * encoded if i == 0 else x
        return torch.as_tensor(self.last(x))


def starts(rows: Tensor, *, n_samples: int, n_outputs: int) -> Tensor:
    """Standard normal noise from which each stay's samples start, a function of its row.

    The samples of a label are spread evenly over the distribution (one at random in each of S equally likely parts,
    paired at random between labels), so that few of them tell its mean.

    Args:
        rows: (B,) rows.
        n_samples: samples a stay S.
        n_outputs: labels K.

    Returns:
        (B, S, K) float32 on the CPU.
    """
    shares = []
    for row in rows.tolist():
        generator = torch.Generator().manual_seed(SEED ^ (row * 0x9E3779B97F4A7C15 % 2**63))
        order, place = torch.rand(2, n_samples, n_outputs, generator=generator, dtype=torch.float64)
        shares.append((order.argsort(dim=0) + place) / n_samples)
    noise: Tensor = torch.special.ndtri(torch.stack(shares).clamp(1e-6, 1 - 1e-6))
    return noise.float()


def _probability(label: Tensor) -> Tensor:
    """A sampled label as a probability: itself from 0 to 1; beyond, it goes on towards them, so that order is kept.

    (The authors' is logistic((2 y - 1) / temperature), with a temperature chosen on the training data.)
    """
    above = functional.softplus((label - 1) / SOFTNESS)
    return SOFTNESS * (functional.softplus(label / SOFTNESS) - above)
