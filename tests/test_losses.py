"""Losses against plain formulas; unknown labels; shares of a batch add up to the batch."""

import numpy as np
import pytest
import torch

from fusionctl import fusion, losses
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

NAN = float("nan")
K = 3
every_loss = pytest.mark.parametrize("name", list(losses.LOSSES))


def training_labels():
    rng = np.random.default_rng(0)
    labels = (rng.random((400, K)) < (0.1, 0.5, 0.7)).astype(np.float32)
    labels[::7, 1] = NAN
    return labels


def make(name):
    loss = losses.build(name, training_labels())
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.copy_(torch.tensor([0.4, -0.7, 0.1]))
    return loss


def batch(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, K, generator=generator, dtype=torch.float64)
    labels = (torch.rand(n, K, generator=generator) < 0.5).double()
    labels[torch.rand(n, K, generator=generator) < 0.3] = NAN
    return logits.requires_grad_(), labels


def plain(logits, labels):
    """Cross-entropy of each known cell: {(row, label): value}."""
    cells = [(b, k) for b in range(len(logits)) for k in range(K) if labels[b, k] == labels[b, k]]
    return {(b, k): np.log1p(np.exp(-logits[b, k].item() * (2 * labels[b, k].item() - 1))) for b, k in cells}


def test_each_loss_against_its_formula():
    logits, labels = batch()
    cells, s = plain(logits, labels), [0.4, -0.7, 0.1]
    means = [np.mean([value for (_, k), value in cells.items() if k == label]) for label in range(K)]
    n = np.array([[(training_labels()[:, k] == y).sum() for k in range(K)] for y in (0, 1)])
    effective = (1 - 0.9999**n) / (1 - 0.9999)
    weight = 2 * (1 / effective) / (1 / effective).sum(axis=0)
    expected = {
        "bce": np.mean(list(cells.values())),
        "uncertainty": sum(np.exp(-s[k]) * means[k] + s[k] for k in range(K)),
        "uncertainty-reference": np.mean([np.exp(-s[k]) * means[k] + 0.5 * s[k] for k in range(K)]),
        "focal": np.mean([(1 - np.exp(-value)) ** 2 * value for value in cells.values()]),
        "balanced": np.mean([weight[int(labels[b, k]), k] * value for (b, k), value in cells.items()]),
    }
    for name, value in expected.items():
        assert make(name)(logits, labels).item() == pytest.approx(value, rel=1e-6), name


@every_loss
def test_what_is_unknown_teaches_nothing(name):
    logits, labels = batch()
    broken = torch.where(labels.isnan(), NAN, logits.detach()).requires_grad_()
    values = [make(name)(x, labels) for x in (logits, broken)]
    for value in values:
        value.backward()
    assert values[0].item() == values[1].item()
    assert not broken.grad[labels.isnan()].any() and broken.grad[~labels.isnan()].all()


@every_loss
def test_a_batch_of_unknown_labels_has_no_loss_and_no_gradient(name):
    logits, loss = torch.ones(2, K, requires_grad=True), make(name)
    value = loss(logits, torch.full((2, K), NAN))
    value.backward()
    assert value.item() == 0 and not logits.grad.any()
    assert not any(parameter.grad.any() for parameter in loss.parameters())


def test_the_variance_of_a_label_that_is_not_there_stays():
    loss, (logits, labels) = make("uncertainty"), batch()
    labels[:, 1] = NAN
    loss(logits, labels).backward()
    assert (loss.log_variance.grad != 0).tolist() == [True, False, True]


@every_loss
def test_the_mean_over_shares_is_the_batch(name):
    """Two processes, one with fewer rows than the other, one label known to one of them alone."""
    logits, labels = batch()
    labels[4:, 2] = NAN
    whole, shared = make(name), make(name)
    whole(logits, labels).backward()
    expected, logits.grad = logits.grad, None
    known = (~labels.isnan()).sum(dim=0) / 2
    for rows in (slice(0, 7), slice(7, 12)):
        (shared(logits[rows], labels[rows], known) / 2).backward()
    torch.testing.assert_close(logits.grad, expected)
    for a, b in zip(whole.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_the_focal_loss_works_on_logits_and_is_finite_far_out():
    loss = losses.build("focal", training_labels())
    logits = torch.tensor([[-200.0, 200.0, 0.0]], requires_grad=True)
    value = loss(logits, torch.tensor([[1.0, 1.0, 0.0]]))
    value.backward()
    assert value.item() == pytest.approx((200 + 0.25 * np.log(2)) / 3) and logits.grad.isfinite().all()


def test_the_rare_class_counts_more_and_an_absent_one_breaks_nothing():
    weight = losses.build("balanced", training_labels()).weight
    assert weight[1, 0] > 1.5 > weight[0, 0] and weight[1, 2] < 1 < weight[0, 2]
    assert weight.sum(dim=0).tolist() == pytest.approx([2, 2, 2])
    assert losses.build("balanced", np.zeros((5, 1), np.float32)).weight.isfinite().all()


def test_the_minimum_of_the_uncertainty_is_where_the_variance_is_the_loss():
    """d/ds (exp(-s) L + s) = 0 at exp(s) = L, so sigma is the root of a label's mean loss."""
    loss = losses.build("uncertainty", training_labels())
    logits, labels = batch()
    optimiser = torch.optim.LBFGS(loss.parameters(), max_iter=100)

    def closure():
        optimiser.zero_grad()
        value = loss(logits.detach(), labels)
        value.backward()
        return value

    optimiser.step(closure)
    cells = plain(logits, labels)
    means = [np.mean([value for (_, k), value in cells.items() if k == label]) for label in range(K)]
    assert loss.sigmas() == pytest.approx(np.sqrt(means), rel=1e-3)


def test_the_papers_number_of_parameters_with_the_learned_variances():
    model = fusion.build("attention", EhrEncoder(n_outputs=25), CxrEncoder("resnet34", 25), 25, options={"dropout": 0})
    loss = losses.build("uncertainty", np.zeros((2, 25), np.float32))
    assert sum(p.numel() for p in [*model.parameters(), *loss.parameters()]) == 23_895_972
