"""Signals become a flag, or end a run at once; either way the handlers are put back."""

import os
import signal
import threading

import pytest

from fusionctl import stopping
from fusionctl.errors import Interrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_only_sets_the_flag_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with stopping.stop_on_signal() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop and stop.signal == number
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_there_are_no_handlers():
    flags = []

    def work():
        with stopping.stop_on_signal() as stop:
            flags.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert flags == [False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_what_is_inside_and_no_broad_except_swallows_it(number):
    before, reached = signal.getsignal(number), []
    with pytest.raises(Interrupted, match="stopped") as caught, stopping.leave_on_signal("stopped", hint="go on"):
        try:
            os.kill(os.getpid(), number)
            reached.append("after")
        except Exception:
            reached.append("swallowed")
        finally:
            os.kill(os.getpid(), number)  # a second one, while the first is being handled
            reached.append("cleaned")
    assert reached == ["cleaned"] and caught.value.exit_code == 75
    assert signal.getsignal(number) is before


def test_training_takes_the_signals_over_and_gives_them_back():
    with stopping.leave_on_signal("stopped", hint=""):
        outer = signal.getsignal(signal.SIGTERM)
        with stopping.stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is outer
