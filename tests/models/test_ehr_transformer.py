"""The transformer over the rows: positions, padding, sizes, memory."""

import math

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from fusionctl.errors import UsageError
from fusionctl.models.ehr import EhrEncoder
from fusionctl.models.ehr_transformer import Layer, sinusoids


def test_positions_are_of_hours():
    got = sinusoids(torch.tensor([0.0, 2.0, 4.0]), 4)
    expected = [[math.sin(h), math.sin(h / 100), math.cos(h), math.cos(h / 100)] for h in (0.0, 2.0, 4.0)]
    torch.testing.assert_close(got, torch.tensor(expected))
    assert sinusoids(torch.arange(3), 5).shape == (3, 5)


def test_the_same_hours_on_a_finer_grid_have_the_same_positions():
    coarse, fine = (EhrEncoder(5, arch="transformer", hidden=8, step_hours=h).eval() for h in (2.0, 1.0))
    fine.load_state_dict(coarse.state_dict())
    series = torch.randn(1, 1, 5).expand(1, 5, 5)
    lengths = torch.tensor([5])
    assert not torch.allclose(coarse(series, lengths), fine(series, lengths))
    seen = []
    for encoder in (coarse, fine):
        encoder.trunk.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        encoder(series, lengths)
    torch.testing.assert_close(seen[0][:, :3], seen[1][:, ::2])


def test_a_layer_against_pytorchs_own():
    torch.manual_seed(0)
    ours = Layer(16, 4, dropout=0.0).eval()
    theirs = torch.nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    norm, up, _, down = ours.feedforward
    pairs = [(theirs.norm1, ours.norm), (theirs.norm2, norm), (theirs.linear1, up), (theirs.linear2, down)]
    for target, source in [*pairs, (theirs.self_attn.out_proj, ours.out)]:
        target.load_state_dict(source.state_dict())
    theirs.self_attn.in_proj_weight.data = ours.queries_keys_values.weight.data
    theirs.self_attn.in_proj_bias.data = torch.randn(48)
    ours.queries_keys_values.bias.data = theirs.self_attn.in_proj_bias.data
    tokens, valid = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected = theirs(tokens, src_key_padding_mask=~valid)
    torch.testing.assert_close(ours(tokens, valid[:, None, None])[valid], expected[valid])


def test_the_default_size():
    encoder = EhrEncoder(arch="transformer")
    assert encoder.trunk.layers[0].feedforward[1].out_features == 1024
    layer = 4 * 256 * 257 + 2 * 256 * 1024 + 1024 + 256 + 2 * 2 * 256  # attention, feed-forward, two norms
    expected = 76 * 256 + 256 + 2 * layer + 2 * 256 + 257
    assert sum(p.numel() for p in encoder.parameters()) == expected == 1_600_001


@pytest.mark.parametrize(("hidden", "fitting"), [(20, 16), (3, 8)])
def test_a_width_that_the_heads_do_not_divide(hidden, fitting):
    with pytest.raises(UsageError, match=f"--hidden must be a multiple of --heads .8. .*; got {hidden}") as caught:
        EhrEncoder(arch="transformer", hidden=hidden)
    assert caught.value.hint == f"the nearest is --hidden {fitting}"


def test_the_gradient_keeps_no_attention_weights():
    """Memory grows with the rows, not with their square: a long stay fits."""
    length, sizes = 256, []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    encoder = EhrEncoder(arch="transformer", hidden=16, heads=8, layers=1).train()
    with saved_tensors_hooks(note, lambda tensor: tensor):
        encoder(torch.randn(2, length, 76), torch.tensor([length, 100]))
    assert max(sizes) < 2 * length * length
