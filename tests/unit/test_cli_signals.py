"""What asks a command to end, and that it is never lost."""

import os
import signal

import pytest

from layergate.cli.telling import Signals


class KillsWhenCollected:
    """Signals its own process from where Python drops every exception."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_in_where_exceptions_are_dropped_still_ends_the_command(number: signal.Signals) -> None:
    with Signals() as asked:
        asked.check()
        collected = KillsWhenCollected(number)
        del collected
        with pytest.raises(KeyboardInterrupt):
            asked.check()


def test_the_handlers_of_before_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
