"""Series whose instances arrive late, again, or with other content."""

from pathlib import Path

import pytest
from pydicom import dcmread

from ct3d_edge.node.config import Completion

from .conftest import (
    MakeSeries,
    StartNode,
)
from .sender import read_all, statuses


@pytest.mark.parametrize("rule", ["release", "count"])
def test_series_is_complete_without_waiting(start_node: StartNode, make_series: MakeSeries, rule: str) -> None:
    completion = Completion(stable_for=600, on_release=rule == "release", on_count=rule == "count")
    node, datasets = start_node(completion=completion), read_all(make_series())
    for dataset in datasets:
        dataset.ImagesInAcquisition = len(datasets)
    assert set(statuses(node, datasets)) == {0}
    assert len(node.records(1)) == 1


def test_late_instance_makes_the_whole_series_arrive_again(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(), read_all(make_series())
    statuses(node, datasets[:-1])
    node.records(1)
    assert statuses(node, datasets[-1:]) == [0]
    first, second = node.records(2)
    assert Path(second.scan).name == "1.2.3-2"
    assert len(list(Path(second.scan).glob("*.dcm"))) == len(datasets)
    assert first.scan_sha256 != second.scan_sha256


def test_instances_that_come_again_unchanged_change_nothing(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(), read_all(make_series())
    statuses(node, datasets)
    node.records(1)
    assert set(statuses(node, datasets)) == {0}
    statuses(node, read_all(make_series("1.2.4")))
    assert [Path(record.scan).name for record in node.records(2)] == ["1.2.3-1", "1.2.4-1"]
    assert list((node.spool / "receiving").iterdir()) == []


def test_instances_of_one_uid_and_other_content_are_both_stored(start_node: StartNode, make_series: MakeSeries) -> None:
    node, datasets = start_node(), read_all(make_series())
    other = read_all(make_series())[3]
    other.PixelData = bytes(value ^ 1 for value in other.PixelData)
    for _ in range(2):  # sent again, nothing changes
        assert set(statuses(node, [*datasets, other, other])) == {0}
        (record,) = node.records(1)
        assert record.failure is not None
        assert record.failure.code == "conflicting_instances"
        assert len(list(Path(record.scan).glob("*.dcm"))) == len(datasets) + 1
    assert list((node.spool / "receiving").iterdir()) == []


def test_instance_with_other_content_replaces_that_of_an_earlier_arrival(
    start_node: StartNode, make_series: MakeSeries
) -> None:
    node, datasets = start_node(), read_all(make_series())
    statuses(node, datasets)
    node.records(1)
    datasets[3].SeriesDescription = "corrected"
    assert statuses(node, datasets[3:4]) == [0]
    _, second = node.records(2)
    stored = [dcmread(path).get("SeriesDescription") for path in Path(second.scan).glob("*.dcm")]
    assert len(stored) == len(datasets)
    assert stored.count("corrected") == 1
