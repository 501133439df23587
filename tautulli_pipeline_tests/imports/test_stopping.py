"""Stopping work: real signals to this process, and requests from other processes."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from tautulli_pipeline.errors import SourceError, StoppedError
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.stopping import SIGNALS, Stop
from tautulli_pipeline_tests.command import wait_until


@pytest.fixture
def stop():
    return Stop("the work was stopped", hint="try again")


@pytest.fixture(autouse=True)
def _handlers_are_restored():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == before


def stopped(caught):
    return (caught.value.message, caught.value.hint) == ("the work was stopped", "try again")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_requests_a_stop_and_the_second_ends_the_work_immediately(stop, number):
    with stop.heard():
        stop.require_none()
        signal.raise_signal(number)
        assert stop.is_requested
        with pytest.raises(StoppedError) as caught:
            stop.require_none()
        assert stopped(caught)
        assert not stop.is_urgent
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert stop.is_urgent


def test_a_signal_interrupts_interruptible_work(stop):
    with stop.heard(), pytest.raises(StoppedError) as caught, stop.interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert stopped(caught)
    assert caught.traceback[-1].name == "_on_signal"


def test_interruptible_work_does_not_begin_after_a_request(stop):
    begun = []
    stop.request()
    with pytest.raises(StoppedError), stop.interruptible():
        begun.append("work")
    assert begun == []


def test_work_is_interruptible_only_within_the_context(stop):
    with stop.heard():
        with stop.interruptible():
            pass
        signal.raise_signal(signal.SIGINT)
    assert stop.is_requested


def test_without_signals_a_request_takes_effect_at_the_end_of_interruptible_work(stop):
    with pytest.raises(StoppedError) as caught, stop.interruptible():
        stop.request()
    assert caught.traceback[-1].name == "require_none"


def work_that_wraps():
    try:
        signal.raise_signal(signal.SIGINT)
    except StoppedError as error:
        raise SourceError("the query failed") from error


def test_a_stop_that_a_library_wraps_in_its_own_error_is_raised_as_a_stop(stop):
    with stop.heard(), pytest.raises(StoppedError) as caught, stop.interruptible():
        work_that_wraps()
    assert stopped(caught)
    assert isinstance(caught.value.__cause__, SourceError)


def test_an_error_that_no_signal_caused_is_raised_unchanged(stop):
    def fail_after_a_request():
        stop._is_requested = True
        raise SourceError("page 7 is torn")

    with stop.heard(), pytest.raises(SourceError, match="torn"), stop.interruptible():
        fail_after_a_request()


def test_signals_that_nohup_ignores_stay_ignored_even_if_a_library_replaced_the_handlers(stop):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop.heard():
        signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.default_int_handler)  # like a library does
        with stop.heard():
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_requested
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_requested
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)


def test_the_signal_handlers_of_a_library_are_restored(stop):
    with stop.heard():
        ours = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with stop.heard():
            assert signal.getsignal(signal.SIGINT) == ours
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, ours)


def test_a_request_from_another_thread_interrupts_the_main_thread(stop):
    with stop.heard():
        thread = threading.Timer(0.1, stop.request)
        thread.start()
        with pytest.raises(StoppedError), stop.interruptible():
            time.sleep(10)
        thread.join()


def test_outside_the_main_thread_only_a_request_stops_the_work(stop):
    handlers = []

    def work():
        with stop.heard():
            handlers.append(signal.getsignal(signal.SIGTERM))
            stop.wait(10)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    stop.request()
    thread.join(10)
    assert (handlers, stop.is_requested, thread.is_alive()) == ([before], True, False)


def test_a_request_from_another_process_stops_the_work(stop, tmp_path):
    lock = ImportLock(tmp_path)
    with lock.hold(tmp_path / "tautulli.db") as claim, stop.shared(lock, claim):
        assert not stop.wait(0.3)
        lock.request_stop(claim)
        assert stop.wait(10)


def test_other_processes_see_that_the_work_is_stopping(stop, tmp_path):
    lock = ImportLock(tmp_path)
    with lock.hold(tmp_path / "tautulli.db") as claim, stop.shared(lock, claim):
        assert not lock.is_stopping()
        stop.request()
        wait_until(lock.is_stopping)
    assert not lock.is_stopping()
    assert list(tmp_path.iterdir()) == []


def test_it_stops_even_if_a_full_disk_hides_the_stop_from_other_processes(stop, tmp_path):
    class FullDisk(ImportLock):
        def request_stop(self, _claim):
            raise OSError("no space left")

    lock = FullDisk(tmp_path)
    with lock.hold(tmp_path / "tautulli.db") as claim, stop.shared(lock, claim):
        stop.request()
        time.sleep(0.3)
    assert stop.is_requested
