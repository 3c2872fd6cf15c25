"""The contrastive loss of SimCLR."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fusionctl import distributed


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy (Chen, Kornblith, Norouzi and Hinton, ICML 2020, equation 1).

    Of 2 N embeddings each has to find its partner among the other 2 N - 1 by cosine similarity; the mean over all of
    them. It is computed in float32 whatever the precision around it: similarities divided by a small temperature would
    lose their differences.

    Args:
        a: (N, D) one embedding of each of N things; N may be 0.
        b: (N, D) the other embedding of the same things, in the same order.
        temperature: greater than 0; the smaller, the more the hardest of the others counts.

    Returns:
        Scalar, at least 0. It is 0, with zero gradients, for N = 1 (none can be mistaken for the partner) and N = 0.

    Raises:
        ValueError: the shapes differ, or the temperature is not greater than 0.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"a and b must be (N, D) alike; got {tuple(a.shape)} and {tuple(b.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be greater than 0; got {temperature}")
    n = len(a)
    if not n:
        return (a.sum() + b.sum()).float()
    with torch.autocast(a.device.type, enabled=False):
        directions = functional.normalize(torch.cat([a, b]).float(), dim=1)
        similarity = directions @ directions.T / temperature
        itself = torch.eye(2 * n, dtype=torch.bool, device=a.device)
        partner = torch.arange(2 * n, device=a.device).roll(n)
        return functional.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


def nt_xent_of_all(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """`nt_xent` of the embeddings of all processes: each is told apart from the others' too.

    Args:
        a: (n, D) this process's; n may be 0.
        b: (n, D) the other embedding of the same things.
        temperature: see `nt_xent`.

    Returns:
        Scalar, the same in all processes. Its gradient is that of this process's embeddings, times the number of
        processes: the mean over the processes is then the whole's.
    """
    group = distributed.current()
    loss = nt_xent(group.gathered(a), group.gathered(b), temperature)
    return loss if group.size == 1 else loss.detach() + group.size * (loss - loss.detach())
