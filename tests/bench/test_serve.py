"""The comparison of `serve` with `infer`, on tiny scans and a tiny network."""

from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

from bench import save_record, serve
from ct3d_edge.latency.record import read_record


@pytest.mark.slow
def test_a_comparison_keeps_every_sample(
    make_model: MakeModel,
    make_scan: MakeScan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(3):
        make_scan(f"{number}.nii.gz", folder=tmp_path / "scans")
    monkeypatch.setattr(save_record, "RESULTS", tmp_path)
    serve.main([str(tmp_path / "scans"), "--model", str(make_model()), "--scans=5", "--rounds=2", "--requests=40"])
    printed = capsys.readouterr().out
    record = read_record(tmp_path / "serve.json")
    assert set(record.samples.counted) == {"infer", "serve, 1 client", "serve, 4 clients", "serve, 16 clients"}
    assert all(len(times) == 2 for times in record.samples.counted.values())
    assert {len(values) for values in record.conditions["latencies_ms"].values()} == {10}
    assert len(record.conditions["resident_mb"]) == 11
    assert "1.00 of infer" in printed
    assert "more requests before it can be relied on" in printed
