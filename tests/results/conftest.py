"""Records of a run."""

import os
from dataclasses import replace

import pytest
from records import ANSWERED, FAILED

from ct3d_edge.results.record import Answer, Record, Timing


@pytest.fixture
def several() -> list[Record]:
    """Records of different scans: answered, failed, with three classes, with names that are hard to write."""
    three = Answer("b", (("a", 0.1), ("b", 0.7), ("c", 0.2)), None)
    return [
        replace(ANSWERED, scan="a.nii"),
        replace(FAILED, scan="b\nc.nii"),
        replace(ANSWERED, scan=os.fsdecode(b"d\xff.nii"), answer=three, findings=()),
        replace(FAILED, scan="肺.nii", scan_sha256=None, timing=Timing(read=0.1)),
    ]
