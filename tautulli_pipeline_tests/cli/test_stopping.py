"""What signals do to a command that works; real ones, to this process."""

from __future__ import annotations

import signal
import threading

import pytest

from tautulli_pipeline.cli.stopping import StopSignals, signal_itself
from tautulli_pipeline.errors import SourceError, StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def fault():
    return StoppedError("the work was stopped", hint="do it again")


@pytest.fixture(autouse=True)
def _as_before():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_ends_at_once(fault, number):
    signals = StopSignals(fault)
    with signals.heard():
        signals.require_none()
        signal.raise_signal(number)
        assert signals.requested.is_set()
        with pytest.raises(StoppedError) as caught:
            signals.require_none()
        assert caught.value is fault
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_work_that_does_not_look_is_interrupted(fault):
    signals = StopSignals(fault)
    signals.interrupts = lambda: True
    with pytest.raises(StoppedError) as caught, signals.heard():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value is fault
    assert signals.requested.is_set()


def work_that_wraps():
    try:
        signal.raise_signal(signal.SIGINT)
    except StoppedError as error:
        raise SourceError("the query failed") from error


def test_a_stop_that_a_library_made_its_own_fault_of_is_a_stop_again(fault):
    signals = StopSignals(fault)
    signals.interrupts = lambda: True
    with pytest.raises(StoppedError) as caught, signals.heard():
        work_that_wraps()
    assert caught.value is fault
    assert isinstance(caught.value.__cause__, SourceError)


def fail_after_a_signal():
    signal.raise_signal(signal.SIGTERM)
    raise SourceError("page 7 is torn")


def test_a_fault_that_no_signal_caused_stays_what_it_is(fault):
    signals = StopSignals(fault)
    with pytest.raises(SourceError, match="torn"), signals.heard():
        fail_after_a_signal()
    assert signals.requested.is_set()


def test_what_nohup_made_deaf_stays_deaf(fault):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = StopSignals(fault)
    with signals.heard():
        signal.raise_signal(signal.SIGHUP)
        assert not signals.requested.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert signals.requested.is_set()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)


def test_another_thread_can_stop_the_work_as_a_service_manager_would(fault):
    signals = StopSignals(fault)
    with signals.heard():
        thread = threading.Thread(target=signal_itself)
        thread.start()
        assert signals.requested.wait(10)
        thread.join()
