"""Long steps leave the group served; short ones cost no call to it."""

from __future__ import annotations

import threading

import pytest

from streams.engine.thread_worker import ThreadWorker


def test_a_long_step_is_computed_elsewhere_while_the_group_is_served() -> None:
    worker = ThreadWorker()
    served, threads = threading.Event(), set()

    def work() -> int:
        threads.add(threading.get_ident())
        assert served.wait(60)
        return 7

    def keep_alive() -> None:
        assert threading.get_ident() not in threads
        served.set()

    assert worker.run(work, keep_alive) == 7
    worker.close()


def test_what_a_step_raises_is_raised() -> None:
    worker = ThreadWorker()

    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        worker.run(fail, lambda: None)
    worker.close()


def test_a_group_that_throws_us_out_waits_for_the_step_to_end_first() -> None:
    """Nothing of the engine runs behind the back of whoever handles the error."""
    worker = ThreadWorker()
    thrown, ended = threading.Event(), threading.Event()

    def work() -> None:
        assert thrown.wait(60)
        ended.set()

    def keep_alive() -> None:
        thrown.set()
        raise ConnectionError("fenced")

    with pytest.raises(ConnectionError):
        worker.run(work, keep_alive)
    assert ended.is_set()
    worker.close()
