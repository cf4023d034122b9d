from pathlib import Path

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.history import read_history
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import Arrangement, BenchRecord


def save(
    folder: Path,
    name: str,
    created: str,
    level: float = 5.0,
    *,
    cpu: str = "some",
    question: str = "how long?",
    arrangement: Arrangement = "stages",
) -> None:
    samples = Samples({}, {"read": (1.0,) * 9, "infer": (level,) * 9})
    BenchRecord(question, {"cpu": cpu}, {}, {}, samples, created=created, arrangement=arrangement).save(folder / name)


def test_records_stand_in_the_order_of_their_making(tmp_path: Path) -> None:
    save(tmp_path, "b.json", "2026-01-03T00:00:00+00:00", 3)
    save(tmp_path, "a.json", "2026-01-02T01:00:00+02:00", 2)  # 23 h on the day before, in UTC
    save(tmp_path, "c.json", "2026-01-02T00:00:00+00:00", 1)
    ((trend,), left_out) = read_history(tmp_path)
    assert [entry.file for entry in trend.entries] == ["a.json", "c.json", "b.json"]
    assert [entry.median.value for entry in trend.entries] == [3, 2, 4]
    assert (trend.series, left_out) == ("total", ())


def test_a_change_of_the_machine_breaks_the_trend(tmp_path: Path) -> None:
    for day, cpu in enumerate(["some", "some", "other", "other"], start=1):
        save(tmp_path, f"{day}.json", f"2026-01-0{day}T00:00:00+00:00", cpu=cpu)
    ((trend,), _) = read_history(tmp_path)
    assert [bool(entry.broken_by) for entry in trend.entries] == [False, False, True, False]


def test_each_question_and_each_contestant_has_its_trend(tmp_path: Path) -> None:
    save(tmp_path, "a.json", "2026-01-01T00:00:00+00:00")
    save(tmp_path, "b.json", "2026-01-01T00:00:00+00:00", question="who?", arrangement="in turn")
    trends, _ = read_history(tmp_path)
    assert [(trend.question, trend.series) for trend in trends] == [
        ("how long?", "total"),
        ("who?", "read"),
        ("who?", "infer"),
    ]


def test_a_series_can_be_chosen(tmp_path: Path) -> None:
    save(tmp_path, "a.json", "2026-01-01T00:00:00+00:00")
    ((trend,), _) = read_history(tmp_path, "read")
    assert (trend.series, trend.entries[0].median.value) == ("read", 1)
    with pytest.raises(UsageError, match="no counted runs of 'dream'"):
        read_history(tmp_path, "dream")


def test_files_that_are_no_records_are_named(tmp_path: Path) -> None:
    save(tmp_path, "a.json", "2026-01-01T00:00:00+00:00")
    (tmp_path / "x.json").write_text("{}")
    _, (sentence,) = read_history(tmp_path)
    assert "x.json is not a benchmark record" in sentence


def test_a_folder_without_records_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no record"):
        read_history(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        read_history(tmp_path / "absent")
