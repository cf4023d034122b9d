"""Records of a run."""

import os
from dataclasses import replace

import pytest
from records import ANSWERED, FAILED

from ct3d_edge.results.record import Prediction, ResultRecord, Timing


@pytest.fixture
def several() -> list[ResultRecord]:
    """Records of different scans: answered, failed, with three classes, with names that are hard to write."""
    three = Prediction("b", (("a", 0.1), ("b", 0.7), ("c", 0.2)), None)
    return [
        replace(ANSWERED, scan="a.nii"),
        replace(FAILED, scan="b\nc.nii"),
        replace(ANSWERED, scan=os.fsdecode(b"d\xff.nii"), prediction=three, flags=()),
        replace(FAILED, scan="肺.nii", scan_sha256=None, timing=Timing(read=0.1)),
    ]
