"""Which rows make up each step of an epoch, and how a batch gets to the model.

Everything random here is drawn from numbers that the loop gives, so that a resumed run makes the same batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]
T = TypeVar("T")

# Rows are sorted by length times a random factor up to this: neighbours stay alike in length, and no epoch has the
# batches of another.
JITTER = 1.15


def batches(rows: Rows, batch_size: int, *, lengths: npt.NDArray[Any] | None, seed: tuple[int, ...]) -> list[Rows]:
    """Rows of each step of an epoch: every row once, the last one or one of them smaller where they do not go up.

    Where lengths differ, rows of similar length come together, so that little of a batch is padding, and the order of
    the batches is random.

    Args:
        rows: (N,) rows.
        batch_size: rows of a step.
        lengths: length of row r at r; None or all equal: any rows may come together.
        seed: of this epoch's order.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows)
    starts = range(0, len(order), batch_size)
    if lengths is None or len(np.unique(lengths[order])) == 1:
        return [order[start : start + batch_size] for start in starts]
    jitter = JITTER ** rng.uniform(-1, 1, len(order))
    order = order[np.argsort(lengths[order] * jitter, kind="stable")]
    together = [order[start : start + batch_size] for start in starts]
    return [together[i] for i in rng.permutation(len(together))]


def by_length(rows: Rows, lengths: npt.NDArray[Any] | None) -> Rows:
    """Positions of rows in an order in which little of a batch is padding; as they stand where there are no lengths."""
    return np.arange(len(rows)) if lengths is None else np.argsort(lengths[rows], kind="stable")


def share(rows: npt.NDArray[Any], rank: int, size: int) -> npt.NDArray[Any]:
    """What one of several processes takes of a step's rows, or of what goes with them; maybe nothing. Alone: all.

    Of rows in the order of their lengths each takes short and long ones, so that none has to wait for another.
    """
    return rows[rank::size]


def hide_films(batch: Any, hidden: Tensor) -> Any:
    """A batch in which some stays have no films.

    Args:
        batch: a `Batch`.
        hidden: (B,) bool, whose films are taken away.
    """
    kept = ~hidden[batch.film_rows]
    return dataclasses.replace(
        batch, films=batch.films[kept], film_rows=batch.film_rows[kept], has_film=batch.has_film & ~hidden
    )


def mute(batch: Any) -> Any:
    """A batch without label, film or owner: it teaches nothing. For a process without a row of its own in a step."""
    batch = dataclasses.replace(batch, labels=torch.full_like(batch.labels, float("nan")))
    if not hasattr(batch, "rows"):
        return batch
    batch = hide_films(batch, torch.ones_like(batch.has_film))
    return dataclasses.replace(batch, rows=torch.full_like(batch.rows, -1))


def pinned(batch: Any) -> Any:
    """A batch in page-locked memory, from which it is copied to an accelerator while that computes."""
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return dataclasses.replace(batch, **{name: tensor.pin_memory() for name, tensor in fields.items()})


def ahead(read: Callable[[int], T], steps: Sequence[int]) -> Generator[T, None, None]:
    """What `read` gives for each step, the next one read in a thread while this one is used.

    The thread has ended when the iterator has, however that comes about.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        coming = [pool.submit(read, step) for step in steps[:1]]
        for following in [*steps[1:], None]:
            if not coming:
                return
            batch = coming.pop().result()
            if following is not None:
                coming.append(pool.submit(read, following))
            yield batch
