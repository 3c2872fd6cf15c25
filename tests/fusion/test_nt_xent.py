"""The contrastive loss, against a slow one and by hand."""

import math

import pytest
import torch

from fusionctl.fusion.nt_xent import nt_xent


def by_loop(a, b, temperature):
    """The definition, one pair at a time."""
    z = [row / math.sqrt(sum(x * x for x in row)) for row in torch.cat([a, b]).double()]
    n, losses = len(a), []
    for i in range(2 * n):
        alike = {j: math.exp(float(z[i] @ z[j]) / temperature) for j in range(2 * n) if j != i}
        losses.append(-math.log(alike[(i + n) % (2 * n)] / sum(alike.values())))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 3.0])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_it_is_the_definition(n, temperature):
    generator = torch.Generator().manual_seed(n)
    a, b = torch.randn(2, n, 4, generator=generator)
    assert nt_xent(a, b, temperature).item() == pytest.approx(by_loop(a, b, temperature), rel=1e-5, abs=1e-7)


def test_two_pairs_by_hand():
    """Each sees its partner at cosine 1 and the two others at 0; lengths do not count."""
    a = torch.tensor([[3.0, 0.0], [0.0, 0.1]])
    b = torch.tensor([[1.0, 0.0], [0.0, 9.0]])
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert nt_xent(a, b, 0.5).item() == pytest.approx(expected, rel=1e-6)
    swapped = -math.log(1 / (math.exp(2) + 2))
    assert nt_xent(a, b.flip(0), 0.5).item() == pytest.approx(swapped, rel=1e-6)


@pytest.mark.parametrize("n", [0, 1])
def test_without_another_to_mistake_it_for_there_is_nothing_to_learn(n):
    a, b = (torch.randn(n, 8, requires_grad=True) for _ in range(2))
    loss = nt_xent(a, b, 0.1)
    loss.backward()
    assert loss.item() == 0 and not a.grad.any() and not b.grad.any()


def test_an_embedding_of_zeros_breaks_nothing():
    a = torch.zeros(3, 8, requires_grad=True)
    loss = nt_xent(a, torch.randn(3, 8), 0.1)
    loss.backward()
    assert loss.isfinite() and a.grad.isfinite().all()


def test_mixed_precision_does_not_blur_it():
    a, b = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nt_xent(a, b, 0.1), nt_xent(a, b, 0.1).float())
        blurred = nt_xent(a, b, 0.1)
    assert blurred.item() == nt_xent(a, b, 0.1).item()


def test_it_says_what_it_takes():
    with pytest.raises(ValueError, match=r"alike; got \(2, 3\) and \(3, 3\)"):
        nt_xent(torch.ones(2, 3), torch.ones(3, 3), 0.1)
    with pytest.raises(ValueError, match="temperature must be greater than 0; got 0"):
        nt_xent(torch.ones(2, 3), torch.ones(2, 3), 0)
