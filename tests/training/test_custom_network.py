"""A network of the user's own: what is accepted, and what each mistake is answered with."""

from pathlib import Path
from typing import Any

import keras
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.artifacts import TrainedRun
from ct3d_edge.training.fit import train
from ct3d_edge.training.network import find_network

from .conftest import FolderMaker, plain

SIZE = (6, 6, 6)

GOOD = """
import keras
from keras import layers

def build(width, height, depth):
    volume = keras.Input((width, height, depth, 1))
    features = layers.Conv3D(2, 3, activation="relu")(volume)
    features = layers.BatchNormalization()(features)
    features = layers.GlobalAveragePooling3D()(features)
    return keras.Model(volume, layers.Dense(1, activation="sigmoid", dtype="float32")(features), name="mine")

def sequential(*size):
    return keras.Sequential([keras.Input((*size, 1)), layers.Flatten(), layers.Dense(1), layers.Activation("sigmoid")])
"""

HEAD = "import keras\nfrom keras import layers, ops\ndef build(*size):\n    volume = keras.Input((*size, 1))\n"
FLAT = HEAD + "    flat = layers.Flatten()(volume)\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(GOOD)
    return tmp_path / "mine.py"


def _train(make_folder: FolderMaker, out: Path, network: str, **options: Any) -> TrainedRun:
    folder = make_folder("a", "b")
    return train(folder, out, plain(epochs=2), network=network, size=SIZE, **options)


def test_a_function_is_trained_and_its_model_is_loaded_without_it(
    make_folder: FolderMaker, tmp_path: Path, file: Path
) -> None:
    run = _train(make_folder, tmp_path / "run", f"{file}:build")
    file.unlink()
    model = keras.saving.load_model(run.model, safe_mode=True)
    assert (model.name, model.input_shape, model.output_shape) == ("mine", (None, *SIZE, 1), (None, 1))


def test_a_sequential_model_with_an_activation_of_its_own_is_taken(file: Path) -> None:
    assert find_network(f"{file}:sequential").build(*SIZE).output_shape == (None, 1)


def test_an_interrupted_run_goes_on_only_with_the_same_file(
    make_folder: FolderMaker, tmp_path: Path, file: Path
) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(make_folder, tmp_path / "run", f"{file}:build", on_epoch=stop)
    with pytest.raises(UsageError, match=r"network was 'mine\.py:build, sha256 .*', now 'tutorial'"):
        train(tmp_path / "data", tmp_path / "run", plain(epochs=2), size=(46, 46, 46), resume=True)
    file.write_text(GOOD.replace("Conv3D(2", "Conv3D(3"))
    with pytest.raises(UsageError, match=r"network was 'mine\.py:build, sha256"):
        _train(make_folder, tmp_path / "run", f"{file}:build", resume=True)
    file.write_text(GOOD)
    assert len(_train(make_folder, tmp_path / "run", f"{file}:build", resume=True).epochs) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("large", r"There is no network 'large'; there are tutorial, narrow, .*FILE\.py:function"),
        ("none.py:build", r"There is no file none\.py"),
        ("mine.py:model", r"mine\.py has no function 'model'; it has build, sequential\. It must be model\(width"),
        ("mine.py:", r"mine\.py has no function ''"),
        ("mine.py", r"There is no network 'mine\.py'"),
    ],
)
def test_a_network_that_is_not_there(file: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(UsageError, match=message):
        find_network(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import keras\nimport no_such_package\n",
            r"cannot be imported: ModuleNotFoundError: .*no_such_package.*\(line 2\)",
        ),
        ("def build(:\n", "cannot be imported: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit('stop')\n", r"cannot be imported: SystemExit: stop \(line 2\)"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        find_network(f"{tmp_path / 'mine.py'}:build")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def build(width, height): pass\n", r"called with \(6, 6, 6\) failed: TypeError: .*positional arguments"),
        (FLAT + "    1 / 0\n", r"failed: ZeroDivisionError: division by zero \(line 6\)"),
        ("def build(*size): return None\n", r"returned NoneType; it must return a keras\.Model"),
        (
            "import keras\ndef build(*size): return keras.Sequential([keras.layers.Dense(1)])\n",
            r"takes nothing before it is called; it must begin with keras\.Input\(\(6, 6, 6, 1\)\)",
        ),
        (
            FLAT.replace("(*size, 1)", "size") + "    return keras.Model(volume, layers.Dense(1)(flat))\n",
            r"takes \(None, 6, 6, 6\); it must begin with",
        ),
        (
            FLAT + '    return keras.Model(volume, layers.Dense(2, activation="softmax")(flat))\n',
            r"returns \(None, 2\); it must return \(None, 1\)",
        ),
        (FLAT + "    return keras.Model(volume, layers.Dense(1)(flat))\n", "must end with a sigmoid"),
        (
            FLAT + '    return keras.Model(volume, layers.Dense(1, "sigmoid", dtype="float16")(flat))\n',
            'returns float16; give its last layer dtype="float32"',
        ),
        (
            FLAT.replace("def build", "class Mine(layers.Dense): pass\ndef build")
            + '    return keras.Model(volume, Mine(1, activation="sigmoid")(flat))\n',
            "uses Mine; another program could not load",
        ),
        (
            FLAT + "    flat = layers.Lambda(lambda x: 2 * x)(flat)\n"
            '    return keras.Model(volume, layers.Dense(1, "sigmoid")(flat))\n',
            "uses Lambda; another program could not load",
        ),
    ],
)
def test_a_function_that_builds_something_else(
    make_folder: FolderMaker, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        _train(make_folder, tmp_path / "run", f"{tmp_path / 'mine.py'}:build")
    assert not (tmp_path / "run").exists()


def test_operations_without_a_layer_are_taken(tmp_path: Path) -> None:
    text = FLAT + "    return keras.Model(volume, ops.sigmoid(layers.Dense(1)(flat)))\n"
    (tmp_path / "mine.py").write_text(text)
    assert find_network(f"{tmp_path / 'mine.py'}:build").build(*SIZE).output_shape == (None, 1)
