"""What every fusion method must do, over every entry of FUSIONS."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from toy import write_preprocessed

from fusionctl import fusion, losses, settings
from fusionctl.data.batch import StayData, collate
from fusionctl.errors import InputError, UsageError
from fusionctl.fusion.films import by_stay
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder
from fusionctl.settings import Fusion
from fusionctl.stages import WITHOUT_WEIGHTS

OPTIONS = {"dropout": 0.1}
every_fusion = pytest.mark.parametrize("name", list(fusion.FUSIONS))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """As `data`, but stays with films have one, two or three."""
    return StayData.open(write_preprocessed(tmp_path_factory.mktemp("several"), most_films=3))


def make(name, *, hidden=16, k=1):
    torch.manual_seed(0)
    method = fusion.FUSIONS[name]
    ehr = EhrEncoder(n_outputs=k, hidden=hidden) if "ehr" in method.modalities else None
    cxr = CxrEncoder("resnet18", 14, input_size=32, magnitude=0.0) if "cxr" in method.modalities else None
    return fusion.build(name, ehr, cxr, k, options=OPTIONS)


def logits(model, batch):
    with torch.no_grad():
        return model(batch).logits


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(("k", "c", "expected"), [(1, 14, 23_871_824), (25, 25, 23_895_947)])
def test_attention_has_the_papers_number_of_parameters(k, c, expected):
    model = fusion.build("attention", EhrEncoder(n_outputs=k), CxrEncoder("resnet34", c), k, options=OPTIONS)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_every_fusion_can_be_chosen():
    assert {*fusion.FUSIONS, "trees"} == set(settings.Fusion.__args__)


@every_fusion
@pytest.mark.parametrize("rows", [[0], [1], [1, 3], [0, 2], [0, 1, 2, 3, 5]], ids=str)
@pytest.mark.parametrize("train", [True, False])
def test_any_mix_of_stays_with_and_without_films(name, data, rows, train):
    model, batch = make(name).train(train), collate(data, rows)
    output = model(batch)
    assert output.logits.shape == (len(rows), 1)
    predicted = batch.has_film if model.needs_film else torch.ones(len(rows), dtype=torch.bool)
    assert torch.equal(~output.logits.isnan().any(dim=1), predicted)


@every_fusion
def test_an_absent_film_changes_nothing(name, data):
    """Neither the rows beside it nor its own: only what is there counts."""
    model = make(name).eval()
    with_film, alone = collate(data, [0, 1]), collate(data, [1])
    close(logits(model, with_film)[1:], logits(model, alone))


def test_attention_ignores_the_film_branch_where_there_is_no_film(data):
    """Even the projection's bias: the absent token is neither attended to nor read."""
    model, alone, present = make("attention").eval(), collate(data, [1]), collate(data, [0])
    before = logits(model, alone), logits(model, present)
    with torch.no_grad():
        model.projection.bias.add_(5.0)
        model.classifier.weight[:, model.ehr.dim :].mul_(-3.0)
    close(before[0], logits(model, alone))
    assert not torch.allclose(before[1], logits(model, present))


@every_fusion
def test_a_film_that_is_there_counts(name, data):
    model, batch = make(name).eval(), collate(data, [0, 2])
    other = dataclasses.replace(batch, films=255 - batch.films)
    assert torch.equal(logits(model, batch), logits(model, other)) == ("cxr" not in model.modalities)


@every_fusion
def test_the_order_of_a_stays_films_changes_nothing(name, several):
    model, batch = make(name).eval(), collate(several, [0, 1, 2, 4])
    assert batch.film_rows.tolist() == [0, 2, 2, 3, 3, 3]
    for order in ([0, 2, 1, 5, 3, 4], [5, 1, 0, 4, 2, 3]):  # within their stays, and among those of other stays
        other = dataclasses.replace(batch, films=batch.films[order], film_rows=batch.film_rows[order])
        close(logits(model, batch), logits(model, other))


@every_fusion
def test_a_film_that_a_stay_has_twice_changes_nothing(name, data):
    model, batch = make(name).eval(), collate(data, [0, 1, 2])
    twice = torch.tensor([0, 1, 1])
    other = dataclasses.replace(batch, films=batch.films[twice], film_rows=batch.film_rows[twice])
    close(logits(model, batch), logits(model, other))


@every_fusion
def test_every_film_of_a_stay_counts_and_only_for_that_stay(name, several):
    model, batch = make(name).eval(), collate(several, [0, 1, 2, 4])
    before = logits(model, batch)
    for film, row in enumerate(batch.film_rows.tolist()):
        films = batch.films.clone()
        films[film] = 255 - films[film]
        after, others = logits(model, dataclasses.replace(batch, films=films)), torch.arange(4) != row
        close(after[others], before[others])
        assert torch.equal(after[row], before[row]) == ("cxr" not in model.modalities)


@every_fusion
@pytest.mark.parametrize("rows", [[0], [1], [0, 2], [3, 2, 1, 0, 4]], ids=str)
def test_any_number_of_films(name, several, rows):
    model, batch = make(name).train(), collate(several, rows)
    output = model(batch)
    assert output.logits.shape == (len(rows), 1)
    predicted = batch.has_film if model.needs_film else torch.ones(len(rows), dtype=torch.bool)
    assert torch.equal(~output.logits.isnan().any(dim=1), predicted)


def test_one_film_a_stay_is_its_own_mean_bit_for_bit():
    features, rows = torch.randn(4, 7, requires_grad=True), torch.tensor([0, 2, 5, 6])
    mean, stays = by_stay(features, rows)
    assert torch.equal(mean, features) and torch.equal(stays, rows)
    weight = torch.randn(4, 7)
    (mean * weight).sum().backward()
    assert torch.equal(features.grad, weight)


def test_several_films_are_their_mean_and_none_is_nothing():
    features = torch.tensor([[1.0, 2.0], [10.0, 20.0], [3.0, 4.0], [5.0, 12.0]])
    mean, stays = by_stay(features, torch.tensor([3, 1, 3, 3]))
    assert stays.tolist() == [1, 3] and mean.tolist() == [[10, 20], [3, 6]]
    mean, stays = by_stay(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    assert mean.shape == (0, 5) and stays.shape == (0,) and stays.dtype == torch.int64


@every_fusion
def test_padding_changes_nothing(name, data):
    model, batch = make(name).eval(), collate(data, [0, 1, 2])
    padding = torch.full((3, 5, batch.series.shape[2]), 50.0)
    padded = dataclasses.replace(batch, series=torch.cat([batch.series, padding], dim=1))
    close(logits(model, batch), logits(model, padded))


@every_fusion
def test_rows_are_independent_in_evaluation(name, data):
    model, rows = make(name).eval(), [3, 2, 0, 5, 4]
    together = logits(model, collate(data, rows))
    for position, row in enumerate(rows):
        close(together[position : position + 1], logits(model, collate(data, [row])))


@every_fusion
def test_logits_are_raw(name, data):
    """Scaling the last layer scales them without bound: no sigmoid hides in the model."""
    model = make(name).eval()
    last = model.ehr.head if name == "ehr" else model.classifier
    with torch.no_grad():
        last.weight.mul_(1e3)
        last.bias.fill_(-500.0)
    batch = collate(data, [0, 2])
    before = logits(model, batch)
    assert (before.abs() > 1.5).any()
    with torch.no_grad():
        last.bias.fill_(500.0)
    close(logits(model, batch) - before, torch.full_like(before, 1000.0))


@every_fusion
def test_every_trainable_parameter_gets_a_gradient(name, data):
    model = make(name).train()
    batch = collate(data, [0, 2, 4, 6])
    output = model(batch)
    losses.bce(output.logits, batch.labels).backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    # A bias before the softmax of attention's keys cannot matter; PyTorch stores it with those of queries and values.
    assert not silent


@every_fusion
def test_it_overfits_six_rows(name, data):
    model = make(name, hidden=32).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = collate(data, [0, 2, 4, 6, 8, 10])
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(60):
        optimiser.zero_grad()
        value = losses.bce(model(batch).logits, batch.labels)
        value.backward()
        optimiser.step()
        if value < 0.05:
            break
    assert value < 0.05


@every_fusion
def test_saved_and_loaded_it_predicts_the_same(name, data, tmp_path):
    model = make(name, k=1).eval()
    fusion.save(tmp_path / "weights.safetensors", model)
    again = fusion.load(tmp_path / "weights.safetensors")
    batch = collate(data, [0, 1, 2])
    assert not again.training and again.config == model.config
    assert torch.equal(logits(model, batch).nan_to_num(9), logits(again, batch).nan_to_num(9))


def test_a_file_cut_short_is_one_clear_error(tmp_path):
    path = tmp_path / "weights.safetensors"
    fusion.save(path, make("ehr"))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"weights\.safetensors: not a readable weights file"):
        fusion.load(path)


def test_attention_says_which_widths_it_takes():
    with pytest.raises(UsageError, match="a multiple of 8; got 12"):
        make("attention", hidden=12)


def test_unknown_labels_do_not_teach_even_with_a_broken_logit():
    logit = torch.tensor([[0.5, float("nan")], [1.0, 2.0]], requires_grad=True)
    labels = torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]])
    value = losses.bce(logit, labels)
    value.backward()
    expected = (np.log1p(np.exp(-0.5)) + np.log1p(np.exp(2.0))) / 2
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert logit.grad[0, 1] == 0 and logit.grad[1, 0] == 0 and logit.grad[0, 0] != 0


def test_a_batch_of_unknown_labels_has_no_loss_and_no_gradient():
    logit = torch.ones(2, 1, requires_grad=True)
    value = losses.bce(logit, torch.full((2, 1), float("nan")))
    value.backward()
    assert value.item() == 0 and not logit.grad.any()


def test_every_fusion_can_be_asked_for_and_every_name_is_built():
    assert {*fusion.FUSIONS, *WITHOUT_WEIGHTS} == set(get_args(Fusion))
