"""Late fusion: branches that learn apart, their mixture, and its weight."""

import numpy as np
import pytest
import torch

from fusionctl import fusion, losses, metrics
from fusionctl.data.batch import collate
from fusionctl.fusion.late import WEIGHTS, mixture

from .models import batch_of, close, logits, loss_of, make


def test_a_mixture_of_probabilities_not_a_difference(data):
    """(1 - w) p_cxr + w p_ehr with a film, p_ehr without."""
    model, batch = make("late", k=3).eval(), collate(data, [0, 1, 2])
    weight = model.weight.copy_(torch.tensor([0.2, 0.5, 1.0]))
    with torch.no_grad():
        parts = model.parts(batch)
    chances = {name: part.sigmoid() for name, part in parts.items()}
    expected = (1 - weight) * chances["cxr"] + weight * chances["ehr"]
    assert parts["cxr"][1].isnan().all() and not parts["cxr"][[0, 2]].isnan().any()
    expected[1] = chances["ehr"][1]
    close(logits(model, batch).sigmoid(), expected)
    assert torch.equal(logits(model, batch)[1], parts["ehr"][1])


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_mixtures_logit_where_probabilities_are_rounded(weight):
    logit = torch.tensor([-300.0, -40.0, -1.0, 0.0, 2.0, 40.0, 300.0])
    for other in logit:
        got = mixture(logit, other, torch.tensor(weight))
        p, q, w = logit.double().sigmoid(), other.double().sigmoid(), float(torch.tensor(weight))
        small = (got.abs() < 15) & (got.abs() > 0)
        mixed = (1 - w) * q + w * p
        torch.testing.assert_close(got[small].double(), (mixed / (1 - mixed)).log()[small], rtol=1e-4, atol=1e-4)
        assert got.isfinite().all()
    close(mixture(logit, logit, torch.tensor(weight)), logit)


def test_the_branches_learn_apart(data):
    """Each has the gradient that it would have alone."""
    model, batch = make("late", k=4).train(), batch_of(data, [0, 1, 2, 4], k=4)
    model.ehr.dropout.p = 0.0
    model.ehr.trunk.dropout.p = 0.0
    loss_of(model, batch).backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    losses.bce(model.ehr(batch.series, batch.lengths), batch.labels).backward()
    losses.bce(model.classifier(model.cxr.embed(batch.films)), batch.labels[batch.film_rows]).backward()
    assert {"ehr.head.weight", "cxr.trunk.conv1.weight", "classifier.weight"} <= set(together)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(together[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def validation(n=400):
    """Logits of both branches and labels: the film tells label 0, the series label 1, both label 2; half have films."""
    rng = np.random.default_rng(0)
    labels = (rng.random((n, 4)) < 0.4).astype(np.float32)
    labels[:, 3] = 1
    strength = {"ehr": np.array([0.0, 2.0, 1.5, 1.0]), "cxr": np.array([2.0, 0.0, 1.5, 1.0])}
    parts = {m: rng.normal(size=labels.shape) + s * (labels - 0.5) for m, s in strength.items()}
    parts["cxr"][::2] = np.nan
    labels[1::9, 2] = np.nan
    return {m: torch.tensor(part, dtype=torch.float32) for m, part in parts.items()}, torch.from_numpy(labels)


def test_settle_takes_the_best_weight_of_each_label():
    model = make("late", k=4)
    parts, labels = validation()
    model.settle(parts, labels)
    chosen = model.weight.tolist()
    assert chosen[0] < 0.4 and chosen[1] > 0.6 and 0.2 <= chosen[2] <= 0.8
    assert chosen[3] == 0.5  # one class only: nothing to choose by
    paired = slice(1, None, 2)
    ehr, cxr = (parts[m].double().sigmoid().numpy()[paired] for m in ("ehr", "cxr"))
    for k in range(3):
        areas = {w: metrics.auroc(labels[paired, k], w * ehr[:, k] + (1 - w) * cxr[:, k]) for w in WEIGHTS}
        assert areas[min(WEIGHTS, key=lambda w: abs(w - chosen[k]))] == max(areas.values())


def test_settle_looks_only_at_stays_with_films():
    parts, labels = validation()
    one, two = make("late", k=4), make("late", k=4)
    one.settle(parts, labels)
    changed = labels.clone()
    changed[::2] = 1 - changed[::2]
    two.settle(parts, changed)
    assert torch.equal(one.weight, two.weight)


def test_of_equally_good_weights_the_most_even():
    model = make("late", k=1)
    sure = torch.tensor([[-3.0], [3.0], [-2.0], [2.0]])
    model.settle({"ehr": sure, "cxr": sure}, torch.tensor([[0.0], [1.0], [0.0], [1.0]]))
    assert model.weight.item() == 0.5


def test_settle_without_films_or_stays_changes_nothing():
    model = make("late", k=2)
    for n in (5, 0):
        model.settle({"ehr": torch.zeros(n, 2), "cxr": torch.full((n, 2), float("nan"))}, torch.ones(n, 2))
        assert model.weight.tolist() == [0.5, 0.5]
    model.settle({}, torch.ones(0, 2))
    assert model.weight.tolist() == [0.5, 0.5]


def test_the_weight_is_saved_and_does_not_learn(tmp_path):
    model = make("late", k=4)
    model.settle(*validation())
    assert "weight" not in dict(model.named_parameters())
    fusion.save(tmp_path / "weights.safetensors", model)
    assert torch.equal(fusion.load(tmp_path / "weights.safetensors").weight, model.weight)


def test_its_encoder_must_have_a_head_for_the_labels():
    with pytest.raises(ValueError, match=r"ehr\.head has 1 outputs; expected one a label, 2"):
        fusion.FUSIONS["late"](make("ehr").ehr, make("cxr").cxr, 2, options={})
