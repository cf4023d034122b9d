"""``distill`` as a user meets it."""

import re
from pathlib import Path

import pytest
from networks import KERAS

from .conftest import Run

pytestmark = pytest.mark.skipif(not KERAS, reason="needs the extra `train`")

NETWORK = """
import keras


def build(*size):
    layers = [keras.Input((*size, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    return keras.Sequential(layers)
"""


@pytest.mark.slow
def test_from_two_folders_to_a_student(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    (tmp_path / "mine.py").write_text(NETWORK)
    network = ("--network", f"{tmp_path}/mine.py:build", "--epochs", 2, "--batch-size", 2)
    assert run("data", "synth", "--out", tmp_path / "phantoms", "--num-scans", 12, "--shape", 32, 32, 16).code == 0
    scans, split = tmp_path / "phantoms" / "scans", tmp_path / "split.json"
    teacher, small = tmp_path / "run", tmp_path / "small"
    assert run("data", "split", scans, "--out", split, "--validation", 0.34, "--test", 0.34).code == 0
    assert run("train", scans, "--out", teacher, "--split", split, "--shape", 6, 6, 6, *network).code == 0

    made = run("distill", teacher, scans, "--out", small, "--report", tmp_path / "report", *network)
    assert made.code == 0
    assert f"{small}/model.keras" in (tmp_path / "report" / "evaluation.json").read_text()
    assert (tmp_path / "report" / "comparison.html").is_file()
    assert "(h:min:s) for 2 epochs, from measured steps of " in made.err
    assert f"{small}/model.keras: weights of epoch" in made.out
    for role, place in (("model", small), ("reference", teacher)):
        assert re.search(rf"\n{role}\s+{place}/model\.keras\s+\(Keras\)", made.out)
    assert re.search(r"common scans +2 normal, 2 abnormal", made.out)
    assert (small / "comparison.json").is_file()

    again = run("distill", teacher, scans, "--out", small, *network)
    assert again.code == 2
    assert "already holds a trained model.keras" in again.err
    gate = ("--overwrite", "--require-non-inferior", "--margin", 0)
    failed = run("distill", teacher, scans, "--out", small, *network, *gate)
    assert failed.code == 4
    assert "not shown to be non-inferior" in failed.err
    assert run("export", "--model", small, "--out", tmp_path / "small.onnx").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--latency", "soon"), "A latency is a number with a unit, e.g. 20ms; found 'soon'."),
        (("--memory", "much"), "A size is a number with a unit"),
        (("--speedup", "-1"), "A target is a positive number"),
        (("--temperature", "0"), "temperature must be above 0"),
    ],
)
def test_options_out_of_range(run: Run, tmp_path: Path, options: tuple[str, str], message: str) -> None:
    failed = run("distill", tmp_path, tmp_path, "--out", tmp_path / "small", *options)
    assert failed.code == 2
    assert message in failed.err
