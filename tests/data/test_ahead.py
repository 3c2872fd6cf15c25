"""An iterator in a thread of its own."""

import threading
from itertools import count

import pytest

from fusionctl.data.ahead import ahead


def test_items_come_in_order():
    assert list(ahead(iter(range(1000)))) == list(range(1000))
    assert list(ahead(iter([]))) == []


def test_an_exception_comes_out_after_the_items_before_it():
    def source():
        yield 1
        raise ValueError("broken")

    items = ahead(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_no_more_than_a_few_items_ahead_and_closing_ends_the_thread():
    seen, before = [], threading.active_count()

    def source():
        for number in count():
            seen.append(number)
            yield number

    items = ahead(source())
    assert next(items) == 0
    items.close()
    assert len(seen) < 20 and threading.active_count() == before
