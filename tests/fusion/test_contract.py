"""What every fusion method must do, over every entry of FUSIONS.

A method is known here by its attributes alone, never by its name: `modalities`, `needs_film` and the optional
`begin_epoch`.
"""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch

from fusionctl import fusion, losses
from fusionctl.data.batch import collate
from fusionctl.errors import InputError
from fusionctl.fusion.films import by_stay
from fusionctl.settings import Fusion
from fusionctl.stages import WITHOUT_WEIGHTS

from .models import EPOCHS, OPTIONS, batch_of, begin, close, logits, loss_of, make, total

every_fusion = pytest.mark.parametrize("name", list(fusion.FUSIONS))
ZERO = {**OPTIONS, "absent": "zero"}
every_absence = pytest.mark.parametrize("options", [OPTIONS, ZERO], ids=["default", "zero"])
one_or_many = pytest.mark.parametrize(("options", "k"), [(OPTIONS, 1), (ZERO, 25)], ids=["one", "many"])


@every_fusion
@one_or_many
def test_any_mix_of_stays_with_and_without_films(name, data, options, k):
    """Also one stay only, with a film or without, in training and in evaluation."""
    model = make(name, k=k, options=options)
    for rows in ([0], [1], [1, 3], [0, 2], [0, 1, 2, 3, 5]):
        for train in (True, False):
            batch = batch_of(data, rows, k=k)
            output = model.train(train)(batch)
            assert output.logits.shape == (len(rows), k)
            predicted = batch.has_film if model.needs_film else torch.ones(len(rows), dtype=torch.bool)
            assert torch.equal(~output.logits.isnan().any(dim=1), predicted)
            assert output.aux_loss is None or (output.aux_loss.shape == () and output.aux_loss.isfinite())
            assert output.spread is None or output.spread.shape == (len(rows), k)


@every_fusion
@every_absence
def test_an_absent_film_changes_nothing(name, data, options):
    """Neither the rows beside it nor its own: only what is there counts."""
    model = make(name, options=options).eval()
    with_film, alone = collate(data, [0, 1]), collate(data, [1])
    close(logits(model, with_film)[1:], logits(model, alone))


@every_fusion
def test_a_film_that_is_there_counts(name, data):
    model, batch = make(name).eval(), collate(data, [0, 2])
    other = dataclasses.replace(batch, films=255 - batch.films)
    assert torch.equal(logits(model, batch), logits(model, other)) == ("cxr" not in model.modalities)


@pytest.mark.parametrize("name", [n for n, method in fusion.FUSIONS.items() if "ehr" in method.modalities])
def test_the_summary_of_the_series_counts(name, data):
    """No setting of the encoder is without effect."""
    model, batch = make(name, summary=True).eval(), collate(data, [0, 1, 2])
    before = logits(model, batch)
    with torch.no_grad():
        for part in (p for n, p in model.named_parameters() if ".summary." in n):
            part.add_(1.0)
    assert not torch.equal(logits(model, batch), before)


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
def test_any_number_of_films(name, several):
    model = make(name).train()
    for rows in ([0], [1], [0, 2], [3, 2, 1, 0, 4]):
        batch = collate(several, rows)
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
@every_absence
def test_rows_are_independent_in_evaluation(name, data, options):
    model, rows = make(name, options=options).eval(), [3, 2, 0, 5, 4]
    together = logits(model, collate(data, rows))
    for position, row in enumerate(rows):
        close(together[position : position + 1], logits(model, collate(data, [row])))


@every_fusion
def test_logits_are_raw(name, data):
    """They follow the biases of the last layers out of the range of probabilities: no sigmoid hides in the model."""
    k = 5
    model, batch = make(name, k=k).eval(), batch_of(data, [0, 2], k=k)
    if model(batch).spread is not None:  # of sampled probabilities; what they are sampled around is raw
        model.train()
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features in (k, 1)]
    for bias in (-500.0, 500.0):
        with torch.no_grad():
            for head in heads:
                if head.bias is not None:
                    head.bias.fill_(bias)
        assert (logits(model, batch).abs() > 1.5).all()


@every_fusion
@one_or_many
def test_every_trainable_parameter_gets_a_gradient(name, data, options, k):
    """In one epoch or another: some methods train in phases."""
    model = make(name, k=k, options=options).train()
    batch = batch_of(data, [0, 2, 4, 6, 1, 3], k=k)
    silent = {n for n, p in model.named_parameters() if p.requires_grad}
    for epoch in range(1, EPOCHS + 1):
        begin(model, epoch)
        model.zero_grad()
        loss_of(model, batch).backward()
        # A bias before the softmax of attention's keys cannot matter; PyTorch stores it with those of queries and
        # values.
        silent -= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        if not silent:
            break
    assert not silent


@every_fusion
def test_a_batch_without_films_or_labels_can_be_learnt_from(name, data):
    """It teaches little or nothing, and breaks nothing."""
    model = make(name, k=25).train()
    begin(model, EPOCHS)
    batch = batch_of(data, [1, 3, 5], k=25)
    unknown = dataclasses.replace(batch_of(data, [0, 1, 2], k=25), labels=torch.full((3, 25), float("nan")))
    for each in [unknown] if model.needs_film else [batch, unknown]:
        loss = loss_of(model, each)
        assert loss.isfinite()
        if loss.requires_grad:
            loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_fusion
@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of switching oneDNN off
def test_it_trains_in_mixed_precision(name, data):
    """Its tensors of two precisions meet without an error; a processor may lack oneDNN's LSTM in bfloat16."""
    model = make(name).train()
    batch = collate(data, [0, 2] if model.needs_film else [0, 2, 1])
    for epoch in (1, EPOCHS):
        begin(model, epoch)
        with torch.backends.mkldnn.flags(enabled=False), torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(batch)
        loss = total(dataclasses.replace(output, logits=output.logits.float()), batch.labels)
        loss.backward()
        assert loss.isfinite()


@every_fusion
def test_it_overfits_six_rows(name, data):
    model = make(name, hidden=32).train()
    begin(model, EPOCHS)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = collate(data, [0, 2, 4, 6, 8, 10])
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(300):
        output = model(batch)
        value = losses.bce(output.logits, batch.labels)
        if value < 0.05:
            break
        optimiser.zero_grad()
        total(output, batch.labels).backward()
        optimiser.step()
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
