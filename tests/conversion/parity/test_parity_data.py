import numpy as np
import pytest

from ct3d_edge.conversion.parity.parity_data import CalibrationData
from ct3d_edge.errors import UsageError


def volumes(count: int, first: int = 0) -> list[np.ndarray]:
    return [np.full((2, 2, 2), first + n, np.float32) for n in range(count)]


def test_the_hash_names_the_volumes_that_were_used() -> None:
    told = []
    for first in (0, 0, 1):
        calibration = CalibrationData(volumes(5, first), "five")
        assert len(list(calibration)) == 5
        told.append(calibration.to_dict())
    assert told[0] == told[1]
    assert told[0]["sha256"] != told[2]["sha256"]
    assert (told[0]["volumes"], told[0]["material"]) == (5, "five")


def test_going_through_it_twice_changes_nothing() -> None:
    calibration = CalibrationData(volumes(4), "four")
    list(calibration)
    once = calibration.to_dict()
    list(calibration)
    assert calibration.to_dict() == once


def test_too_few_or_equal_volumes_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 4 different volumes, found 3"):
        list(CalibrationData(volumes(3), "three"))
    with pytest.raises(UsageError, match="found 1"):
        list(CalibrationData(volumes(1) * 6, "one, six times"))


def test_a_proof_on_what_was_calibrated_on_is_stopped() -> None:
    calibration = CalibrationData(volumes(5), "five")
    list(calibration)
    assert len(list(calibration.check_disjoint(volumes(8, 100)))) == 8
    with pytest.raises(UsageError, match="Volume 3 of the parity check is calibration data too"):
        list(calibration.check_disjoint([*volumes(2, 100), volumes(1)[0].copy()]))
