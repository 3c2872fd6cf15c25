"""DrFuse: pooling, alignment, attention for each label, absent films."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from toy import write_preprocessed

from fusionctl import fusion, losses
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import UsageError
from fusionctl.fusion.drfuse import jensen_shannon, logit_of_mean, ranking_loss
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

UNKNOWN = float("nan")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("toy")))


def make(k=1, hidden=16, **ehr):
    torch.manual_seed(0)
    cxr = CxrEncoder("resnet18", 14, input_size=32, magnitude=0.0)
    encoder = EhrEncoder(n_outputs=k, hidden=hidden, dropout=0.0, **ehr)
    return fusion.build("drfuse", encoder, cxr, k, options={"dropout": 0.0})


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 25])
def test_the_number_of_parameters(k):
    with torch.device("meta"):
        model = fusion.build("drfuse", EhrEncoder(n_outputs=k), CxrEncoder("resnet34", 14), k, options={"dropout": 0.1})
    d = 256
    encoders = {1: 868_609, 25: 874_777}[k] + 2 * 21_284_672 + 513 * 14
    layers = 2 * (4 * (d * d + d) + 2 * 2048 * d + 2048 + d + 4 * d)
    shared = 2 * 513 * d + (d * 2 * d + 2 * d) + (2 * d * d + d) + (d * d + d)
    attention = 2 * (d * d + d) + k * d * d
    total = sum(p.numel() for p in model.parameters())
    assert total == encoders + layers + shared + attention + 4 * 257 * k == {1: 46_864_787, 25: 48_468_491}[k]


def test_pooled_logits_are_those_of_the_mean_probability():
    a, b = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([-1.0, -2.0, 4.0])
    mean = (a.sigmoid() + b.sigmoid()) / 2
    close(logit_of_mean(a, b), (mean / (1 - mean)).log())
    extreme = torch.tensor([300.0, -300.0])
    close(logit_of_mean(extreme, extreme), extreme)


def test_the_divergence_is_jensens_and_shannons():
    torch.manual_seed(0)
    a, b = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    p, q = a.sigmoid().numpy(), b.sigmoid().numpy()

    def entropy(x):
        return -(x * np.log(x) + (1 - x) * np.log(1 - x))

    expected = (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).sum(axis=1)
    np.testing.assert_allclose(jensen_shannon(a, b).numpy(), expected, rtol=1e-9)
    close(jensen_shannon(a, a), torch.zeros(3, dtype=torch.float64))
    far = torch.full((1, 5), 60.0)
    close(jensen_shannon(far, -far), torch.tensor([5 * math.log(2)]))


def test_the_ranking_asks_for_more_weight_on_what_predicts_better():
    weights = torch.tensor([[[0.5, 0.3, 0.2]]], requires_grad=True)
    logits = torch.tensor([[[0.0, 1.0, 2.0]]], requires_grad=True)  # film best, then shared, then EHR for label 1
    loss = ranking_loss(weights, logits, torch.tensor([[1.0]]))
    assert loss.item() == pytest.approx((0.3 + 0.2 + 0.1) / 3)
    loss.backward()
    assert logits.grad is None and weights.grad[0, 0, 0] > 0 > weights.grad[0, 0, 2]
    assert ranking_loss(weights, logits, torch.tensor([[0.0]])).item() == 0  # the order is right for label 0
    assert ranking_loss(weights, logits, torch.tensor([[UNKNOWN]])).item() == 0


def test_each_label_has_its_own_attention(data):
    """Written out for one stay, label by label."""
    model, d = make(3).eval(), 16
    tokens = torch.randn(1, 3, d)
    with torch.no_grad():
        logits, weights = model._attend(tokens, torch.tensor([True]))
        q, v = model.query(tokens[0]).mean(dim=0), model.value(tokens[0])
        for label in range(3):
            keys = tokens[0] @ model.keys.weight[label * d : (label + 1) * d].T
            expected = torch.softmax(keys @ q / 4, dim=0)
            close(weights[0, label], expected)
            close(logits[0, label], model.classifier(expected @ v)[label])


def test_without_a_film_neither_query_nor_weights_know_the_third_token():
    model, tokens = make(2).eval(), torch.randn(2, 3, 16)
    tokens[1, :2] = tokens[0, :2]
    with torch.no_grad():
        logits, weights = model._attend(tokens, torch.tensor([False, False]))
    assert not weights[..., 2].any()
    close(logits[0], logits[1])
    close(weights.sum(dim=2), torch.ones(2, 2))


def test_an_absent_film_leaves_the_film_networks_out(data):
    model, alone, present = make().eval(), collate(data, [1, 3]), collate(data, [0])
    with torch.no_grad():
        before = model(alone).logits, model(present).logits
        for layer in (model.film_shared, model.film_distinct):
            layer.bias.add_(3.0)
        assert torch.equal(before[0], model(alone).logits)
        assert not torch.allclose(before[1], model(present).logits)


def test_the_two_film_networks_start_alike_and_learn_apart(data):
    model = make().train()
    shared = model.cxr_shared.trunk.state_dict()
    assert all(torch.equal(tensor, shared[name]) for name, tensor in model.cxr.trunk.state_dict().items())
    output = model(collate(data, [0, 2]))
    (output.logits.sum() + output.aux_loss).backward()
    one, two = model.cxr.trunk.conv1.weight, model.cxr_shared.trunk.conv1.weight
    assert one is not two and not torch.equal(one.grad, two.grad)


def test_only_what_is_used_is_trained():
    model = make(pool="attention")
    still = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert still == {"ehr.head.weight", "ehr.head.bias", "ehr.score.weight", "cxr.head.weight", "cxr.head.bias"}


def test_the_other_losses_are_of_training_only(data):
    batch = collate(data, [0, 1])
    assert make().eval()(batch).aux_loss is None
    assert make().train()(batch).aux_loss.item() > 0


def test_alignment_and_ranking_are_of_stays_with_films(data):
    """What the film networks would say of a stay without a film has no part in any loss."""
    model, batch = make().train(), collate(data, [1, 3])
    before = model(batch).aux_loss
    with torch.no_grad():
        model.film_shared.bias.add_(3.0)
        model.alone[2].bias.add_(3.0)
    assert torch.equal(before, model(batch).aux_loss)
    before.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_without_films_the_losses_are_those_of_the_series(data):
    model, batch = make().train(), collate(data, [1, 3])
    shared, distinct = model._series(batch)
    shared = model.align(shared)
    expected = torch.nn.functional.cosine_similarity(shared, distinct).abs().mean()
    for head, representation in ((model.alone[0], distinct), (model.alone[1], shared)):
        expected = expected + losses.bce(head(representation), batch.labels)
    close(model(batch).aux_loss, expected)


def test_unknown_labels_do_not_teach(data):
    model, batch = make().train(), collate(data, [0, 1, 2])
    batch = dataclasses.replace(batch, labels=torch.full_like(batch.labels, UNKNOWN))
    loss = model(batch).aux_loss
    loss.backward()
    assert loss.isfinite() and not any(head.weight.grad.any() for head in model.alone)


def test_it_knows_25_labels_and_other_networks_over_the_series(data):
    model, batch = make(25, arch="decay").train(), collate(data, [0, 1])
    batch = dataclasses.replace(batch, labels=batch.labels.expand(-1, 25))
    output = model(batch)
    assert output.logits.shape == (2, 25) and output.aux_loss.isfinite()


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="a multiple of 4; got 18") as error:
        make(hidden=18)
    assert error.value.hint == "run again: fusionctl pretrain-ehr --hidden 256"
