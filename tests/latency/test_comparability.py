from dataclasses import replace

import pytest

from ct3d_edge.latency.compare import comparability_errors, comparability_notes
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.system_monitor import SystemSnapshot

RECORD = BenchRecord(
    "how long?",
    {"cpu": "some", "cores_usable": 2, "governor": None, "packages": {"numpy": "2.1", "onnxruntime": "1.24"}},
    {"scans": ["a.nii"], "receipt": {"actual": "cpu", "model_sha256": "abc"}},
    {},
    Samples({}, {"infer": (1.0,)}),
)


def test_a_record_may_be_compared_with_its_like() -> None:
    assert comparability_errors(RECORD, RECORD) == []
    assert comparability_notes(RECORD, RECORD) == []


@pytest.mark.parametrize(
    ("changes", "clause"),
    [
        ({"question": "how far?"}, "question: 'how long?' and 'how far?'"),
        ({"environment": {**RECORD.environment, "cpu": "other"}}, "cpu: some and other"),
        ({"environment": {**RECORD.environment, "governor": "powersave"}}, "governor: unknown and powersave"),
        ({"conditions": {**RECORD.conditions, "scans": ["b.nii"]}}, "scans: ['a.nii'] and ['b.nii']"),
    ],
)
def test_another_machine_or_other_work_is_an_obstacle(changes: dict[str, object], clause: str) -> None:
    assert comparability_errors(RECORD, replace(RECORD, **changes)) == [clause]  # type: ignore[arg-type]


def test_another_version_or_model_is_said() -> None:
    newer = {**RECORD.environment, "packages": {"numpy": "2.1", "onnxruntime": "1.31"}}
    other = {**RECORD.conditions, "receipt": {"actual": "cpu", "model_sha256": "def"}}
    changed = replace(RECORD, environment=newer, conditions=other)
    assert comparability_errors(RECORD, changed) == []
    assert comparability_notes(RECORD, changed) == [
        "Differs: packages.onnxruntime: 1.24 and 1.31",
        "Differs: receipt.model_sha256: abc and def",
    ]


def test_disturbances_and_missing_samples_are_said_of_each() -> None:
    seen = (SystemSnapshot(0, 0, busy_s=0), SystemSnapshot(10, 10, busy_s=25))
    assert comparability_notes(replace(RECORD, surroundings=seen), replace(RECORD, incomplete="Ctrl-C in run 3")) == [
        "During the first record other processes used 1.5 cores on average.",
        "The second record is incomplete: Ctrl-C in run 3",
    ]
