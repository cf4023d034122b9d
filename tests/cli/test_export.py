from pathlib import Path

import pytest
from builders import MakeScan
from networks import KERAS, tiny_network

from .conftest import Run


@pytest.fixture
def keras_file(tmp_path: Path) -> Path:
    if not KERAS:
        pytest.skip("needs the extra 'train'")
    path = tmp_path / "tiny.keras"
    tiny_network().save(path)
    return path


def test_what_is_missing_is_asked_for_at_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `train` brings `optimize`."""
    (tmp_path / "m.keras").touch()
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda _: None)
    outcome = run("export", "--model", tmp_path / "m.keras", "--out", tmp_path / "m.onnx")
    assert "needs keras, tensorflow, tf2onnx, onnx_ir, not installed here: pip install" in outcome.err
    assert outcome.err.count("[train]") == 1
    assert "[optimize]" not in outcome.err


def test_exports_proves_and_says_so(run: Run, keras_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.onnx"
    outcome = run("export", "--model", keras_file, "--out", out, "--labels", "healthy,ill")
    assert outcome.code == 0
    assert "came without a contract" in outcome.err
    assert "parity check: 8 volumes (8 phantoms from seed" in outcome.out
    assert "0 label flips" in outcome.out
    assert run("verify", "--model", out).code == 0
    assert "healthy, ill" in run("inspect", "--model", out).out


def test_real_scans_join_the_proof(run: Run, keras_file: Path, make_scan: MakeScan, tmp_path: Path) -> None:
    make_scan("a.nii.gz", folder=tmp_path / "scans")
    outcome = run("export", "--model", keras_file, "--out", tmp_path / "tiny.onnx", "--parity-data", tmp_path / "scans")
    assert outcome.code == 0
    assert f"(1 scan from {tmp_path / 'scans'} and 7 phantoms" in outcome.out


def test_a_failed_proof_is_exit_code_4_and_leaves_no_file(run: Run, keras_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.onnx"
    outcome = run("export", "--model", keras_file, "--out", out, "--atol", "0")
    assert outcome.code == 4
    assert "No file was written" in outcome.err
    assert not out.exists()


def test_labels_that_do_not_fit_are_refused(run: Run, keras_file: Path, tmp_path: Path) -> None:
    assert run("export", "--model", keras_file, "--out", tmp_path / "x.onnx", "--labels", "a,b,c").code == 2
    assert run("export", "--model", keras_file, "--out", tmp_path / "x.onnx", "--labels", "a").code == 2


def test_the_source_is_never_overwritten(run: Run, keras_file: Path) -> None:
    before = keras_file.read_bytes()
    assert run("export", "--model", keras_file, "--out", keras_file).code == 2
    assert keras_file.read_bytes() == before


def test_a_proof_scan_that_cannot_be_used_is_named(run: Run, keras_file: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").touch()
    outcome = run("export", "--model", keras_file, "--out", tmp_path / "x.onnx", "--parity-data", tmp_path)
    assert outcome.code == 2
    assert "broken.nii.gz (empty)" in outcome.err


def test_a_network_is_written_layer_by_layer(run: Run, keras_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.onnx"
    outcome = run("export", "--model", keras_file, "--out", out, "--converter", "direct")
    assert outcome.code == 0
    assert "0 label flips" in outcome.out
    assert run("verify", "--model", out).code == 0


def test_a_layer_that_is_not_known_names_the_other_converter(run: Run, tmp_path: Path) -> None:
    if not KERAS:
        pytest.skip("needs the extra 'train'")
    import keras

    volume = keras.Input((16, 12, 8, 1))
    sums = keras.ops.cumsum(keras.layers.GlobalAveragePooling3D()(volume), axis=1)
    keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(sums)).save(tmp_path / "sums.keras")
    command = ["export", "--model", tmp_path / "sums.keras", "--out", tmp_path / "x.onnx", "--converter", "direct"]
    outcome = run(*command)
    assert outcome.code == 3
    assert "--converter direct cannot write Cumsum" in outcome.err
    assert "Use --converter tf2onnx" in outcome.err
