"""`--embed-preprocessing`, and the commands that meet such a file."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from nibabel import orientations

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.parity import parity_data
from ct3d_edge.modelfile.model_file import load_model_file

from .conftest import Run

SMALL = (
    ((32, 32, 8), 1.0, -1024.0),
    ((40, 30, 40), 0.7, -1000.3),
    ((24, 33, 16), 2.0, 24.0),
    ((32, 32, 32), -1.0, 0.0),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phantoms of a size that suits a tiny network."""
    monkeypatch.setattr(parity_data, "FUSED_IO_SHAPES_AND_SCALINGS", SMALL)
    monkeypatch.setattr(parity_data, "PHANTOM_SHAPE", (32, 32, 16))


@pytest.fixture
def inside(run: Run, small: None, make_model: MakeModel, tmp_path: Path) -> Path:
    """A file that `optimize` put the preprocessing into."""
    out = tmp_path / "inside.onnx"
    outcome = run("optimize", "--model", make_model(temperature=0.8), "--out", out, "--embed-preprocessing")
    assert outcome.code == 0, outcome.err
    assert "preprocessing inside: 8 volumes (scans as stored, against NumPy's preprocessing) on cpu" in outcome.out
    return out


def test_the_proof_is_kept_and_inspect_tells_what_goes_in(run: Run, inside: Path) -> None:
    facts = json.loads(run("inspect", "--model", inside, "--json").out)
    assert facts["graph"]["input"].startswith("stored voxels int16 (slices, rows, columns) of any size")
    assert facts["graph"]["output"] == "probabilities float32 (2)"
    parity = facts["provenance"]["embedded_preprocessing"]
    assert parity["probability_difference"] <= parity["limit"] == 2e-5
    assert parity["scans"][2] == {"shape": [40, 30, 40], "slope": 0.7, "intercept": -1000.3}
    assert facts["provenance"]["nodes"] == facts["graph"]["nodes"]


def test_verify_takes_it(run: Run, inside: Path) -> None:
    outcome = run("verify", "--model", inside, "--provider", "cpu")
    assert outcome.code == 0
    assert outcome.out.startswith("verified: 3 golden inputs on cpu")


def test_commands_that_feed_network_inputs_refuse_it(
    run: Run, inside: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    scan = make_scan()
    for command in (
        ["infer", scan, "--model", inside],
        ["bench", "--model", inside, "--input", scan.parent, "--runs", 2],
        ["optimize", "--model", inside, "--out", tmp_path / "again.onnx"],
        ["check", scan, "--model", inside],
    ):
        outcome = run(*command)
        assert outcome.code == 3, command
        assert "has the preprocessing inside" in outcome.err


def test_a_file_without_it_stays_as_it_was(run: Run, small: None, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "plain.onnx"
    outcome = run("optimize", "--model", make_model(), "--out", out)
    assert outcome.code == 0
    assert "preprocessing inside" not in outcome.out
    assert not load_model_file(out).stored_voxels


def test_three_dimensional_operators_are_none_of_its_business(
    run: Run, small: None, make_model: MakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "flat.onnx"
    outcome = run("optimize", "--model", make_model(), "--out", out, "--target", "no-conv3d", "--embed-preprocessing")
    assert outcome.code == 0
    assert load_model_file(out, stored_voxels=True).provenance["optimize"]["target"] == "no-conv3d"


def test_a_second_gate_that_does_not_hold_leaves_no_file(
    run: Run, small: None, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ct3d_edge.conversion import write_model

    monkeypatch.setattr(write_model, "FUSED_IO_ATOL", 0.0)
    out = tmp_path / "inside.onnx"
    outcome = run("optimize", "--model", make_model(), "--out", out, "--embed-preprocessing")
    assert outcome.code == 4
    assert "The parity check failed" in outcome.err
    assert not out.exists()


@pytest.mark.parametrize("orientation", ["LAS", "RPI", "PIR", "stored"])
def test_the_scans_of_the_second_gate_lie_in_the_contracts_orientation(small: None, orientation: str) -> None:
    contract = Contract(shape=(16, 12, 8), orientation=orientation)
    straight = list(parity_data.PhantomScans(Contract(shape=(16, 12, 8))))
    scans = list(parity_data.PhantomScans(contract))
    assert len(scans) == 8
    for scan, las in zip(scans, straight, strict=True):
        assert scan.stored.dtype == np.int16
        assert scan.axis_code == (None if orientation == "stored" else orientation)
        if orientation != "stored":
            back = orientations.ornt_transform(orientations.axcodes2ornt(orientation), orientations.axcodes2ornt("LAS"))
            np.testing.assert_array_equal(orientations.apply_orientation(scan.stored, back), las.stored)
