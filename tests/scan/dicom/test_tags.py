"""Warnings that quote a patient's values are kept back, also where threads overlap; others come afterwards."""

import logging
import threading
import warnings

import pytest

from ct3d_edge.scan.dicom.tags import without_warnings


def overlap() -> None:
    """Two threads: the second begins before the first ends, and ends after it; each warns all the while."""
    first, second = threading.Event(), threading.Event()

    def read() -> None:
        with without_warnings():
            first.set()
            assert second.wait(10)
            warnings.warn("Doe^Jane", stacklevel=1)

    reader = threading.Thread(target=read)
    reader.start()
    assert first.wait(10)
    with without_warnings():
        second.set()
        reader.join(10)
        warnings.warn("Doe^Jane", stacklevel=1)
        logging.getLogger("highdicom.sr").warning("Doe^Jane")


def test_a_thread_that_ends_first_leaves_the_other_one_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        overlap()
    assert caught == []
    assert caplog.text == ""


def test_what_came_before_holds_again_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    before = list(warnings.filters)
    overlap()
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="aloud"):
        warnings.warn("aloud", stacklevel=1)
    logging.getLogger("highdicom.sr").warning("logged")
    assert caplog.messages == ["logged"]


def test_a_filter_that_somebody_takes_away_is_there_again_for_the_next() -> None:
    with warnings.catch_warnings(record=True) as caught, without_warnings():
        warnings.resetwarnings()
        with without_warnings():
            warnings.warn("Doe^Jane", stacklevel=1)
        warnings.warn("Doe^Jane", stacklevel=1)
    assert caught == []


def test_a_block_that_fails_ends_too() -> None:
    before = list(warnings.filters)
    with pytest.raises(ValueError, match="damaged"), without_warnings():
        raise ValueError("damaged")
    assert warnings.filters == before
