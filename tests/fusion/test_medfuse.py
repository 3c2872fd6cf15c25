"""MedFuse: its size, and its sequence of one or two tokens."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from fusionctl import fusion
from fusionctl.data.batch import collate
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

from .models import OPTIONS, close, logits, make


@pytest.mark.parametrize(("k", "c", "expected"), [(1, 14, 23_869_264), (25, 25, 23_893_387)])
def test_it_has_the_papers_number_of_parameters(k, c, expected):
    with torch.device("meta"):  # sizes alone
        model = fusion.build("medfuse", EhrEncoder(n_outputs=k), CxrEncoder("resnet34", c), k, options=OPTIONS)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_it_reads_the_last_state_by_length(data):
    """As a packed sequence of one or two tokens does."""
    model, batch = make("medfuse").eval(), collate(data, [0, 1, 2, 3])
    assert batch.has_film.tolist() == [True, False, True, False]
    with torch.no_grad():
        tokens = torch.full((4, 2, model.ehr.dim), 7.0)
        tokens[:, 0] = model.ehr.features(batch.series, batch.lengths)
        tokens[batch.film_rows, 1] = model.projection(model.cxr.embed(batch.films))
        packed = pack_padded_sequence(tokens, torch.tensor([2, 1, 2, 1]), batch_first=True, enforce_sorted=False)
        expected = model.classifier(model.lstm(packed)[1][0][0])
    close(logits(model, batch), expected)


def test_the_film_branch_has_no_part_where_there_is_no_film(data):
    for options in (OPTIONS, {**OPTIONS, "absent": "zero"}):
        model, alone, present = make("medfuse", options=options).eval(), collate(data, [1]), collate(data, [0])
        before = logits(model, alone), logits(model, present)
        with torch.no_grad():
            model.projection.bias.add_(5.0)
        close(before[0], logits(model, alone))
        assert not torch.allclose(before[1], logits(model, present))
