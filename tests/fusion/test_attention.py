"""The paper's fusion: its size, and what stands for an absent film."""

import dataclasses

import pytest
import torch

from fusionctl import fusion
from fusionctl.data.batch import collate
from fusionctl.errors import UsageError
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

from .models import OPTIONS, close, logits, make

ZERO = {**OPTIONS, "absent": "zero"}


@pytest.mark.parametrize(("k", "c", "expected"), [(1, 14, 23_871_824), (25, 25, 23_895_947)])
def test_it_has_the_papers_number_of_parameters(k, c, expected):
    with torch.device("meta"):  # sizes alone
        model = fusion.build("attention", EhrEncoder(n_outputs=k), CxrEncoder("resnet34", c), k, options=OPTIONS)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_the_film_branch_has_no_part_where_there_is_no_film(data):
    """Even the projection's bias: the absent token is neither attended to nor read."""
    model, alone, present = make("attention").eval(), collate(data, [1]), collate(data, [0])
    before = logits(model, alone), logits(model, present)
    with torch.no_grad():
        model.projection.bias.add_(5.0)
        model.classifier.weight[:, model.ehr.dim :].mul_(-3.0)
    close(before[0], logits(model, alone))
    assert not torch.allclose(before[1], logits(model, present))


def test_a_zero_token_is_a_token_like_any_other(data):
    """What the paper's text says: it is attended to and read, and it is the same as a film whose token is zero."""
    model, masked, alone = make("attention", options=ZERO).eval(), make("attention").eval(), collate(data, [1])
    before = logits(model, alone)
    assert not torch.allclose(before, logits(masked, alone))
    film = dataclasses.replace(collate(data, [0]), series=alone.series, lengths=alone.lengths)
    close(logits(model, film), logits(masked, film))
    with torch.no_grad():
        model.projection.bias.add_(5.0)
        close(before, logits(model, alone))  # the zero stands behind the projection, not before it
        model.projection.weight.zero_()
        model.projection.bias.zero_()
        close(before, logits(model, film))
        model.classifier.weight[:, model.ehr.dim :].mul_(-3.0)
    assert not torch.allclose(before, logits(model, alone))


def test_what_stands_for_an_absent_film_is_saved(tmp_path, data):
    model, alone = make("attention", options=ZERO).eval(), collate(data, [1])
    fusion.save(tmp_path / "weights.safetensors", model)
    assert torch.equal(logits(fusion.load(tmp_path / "weights.safetensors"), alone), logits(model, alone))


def test_it_says_which_widths_it_takes():
    with pytest.raises(UsageError, match="a multiple of 8; got 12"):
        make("attention", hidden=12)
