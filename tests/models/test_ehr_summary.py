"""The summaries beside the recurrent state: those of `tabular`, of measured cells alone, whatever the padding."""

import numpy as np
import torch

from fusionctl.data.batch import N_COLUMNS, N_VALUE_COLUMNS, variable_of_columns
from fusionctl.models.ehr import EhrEncoder
from fusionctl.models.ehr_summary import LARGEST, N_SUMMARIES, Summary


def stays(lengths=(6, 2, 4), share=0.4):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor(lengths)
    values = torch.randn(len(lengths), int(lengths.max()), N_VALUE_COLUMNS, generator=generator)
    masks = (torch.rand(*values.shape[:2], N_COLUMNS - N_VALUE_COLUMNS, generator=generator) < share).float()
    return torch.cat([values, masks], dim=2), lengths


def test_summaries_are_those_of_the_measured_cells():
    series, lengths = stays()
    found = Summary(8, input_dropout=0.0).summaries(series, lengths).numpy()
    assert found.shape == (3, N_SUMMARIES)
    owner = np.array(variable_of_columns())
    for stay, n in enumerate(lengths.tolist()):
        values = series[stay, :n, :N_VALUE_COLUMNS].numpy()
        seen = series[stay, :n, N_VALUE_COLUMNS:].numpy() > 0.5
        for column in range(N_VALUE_COLUMNS):
            cells = values[seen[:, owner[column]], column]
            wanted = np.zeros(6)
            if len(cells):
                wanted = np.array([cells.mean(), cells.min(), cells.max(), cells[0], cells[-1], cells.std()])
            got = found[stay, : 6 * N_VALUE_COLUMNS].reshape(6, N_VALUE_COLUMNS)[:, column]
            np.testing.assert_allclose(got, wanted.clip(-LARGEST, LARGEST), atol=2e-6)
        np.testing.assert_allclose(found[stay, 6 * N_VALUE_COLUMNS :], np.log1p(seen.sum(axis=0)), rtol=1e-6)


def test_padding_changes_nothing():
    series, lengths = stays()
    encoder = EhrEncoder(n_outputs=3, hidden=8, summary=True).eval()
    padded = torch.cat([series, torch.full((3, 4, N_COLUMNS), 1e3)], dim=1)
    torch.testing.assert_close(encoder(padded, lengths), encoder(series, lengths), rtol=0, atol=1e-5)


def test_a_stay_without_any_measurement_is_finite_and_trains():
    series, lengths = stays(share=0.0)
    encoder = EhrEncoder(n_outputs=3, hidden=8, summary=True, input_dropout=0.5)
    logits = encoder(series, lengths)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_the_paper_has_none():
    assert EhrEncoder().summary is None
    assert sum(p.numel() for p in EhrEncoder().parameters()) == 868_609
