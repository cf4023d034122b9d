from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.runtime import ModelFile, load_model_file
from ct3d_edge.tuning.candidate import Candidate
from ct3d_edge.tuning.candidates import SETTINGS, candidates, make_forms, standard, thread_counts


@pytest.mark.parametrize(("cores", "expected"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_threads_double_up_to_all_cores(cores: int, expected: tuple[int, ...]) -> None:
    assert thread_counts(cores) == expected


def test_every_combination_once_with_a_name_of_its_own() -> None:
    found = candidates(["none", "fast"], "cpu", 4)
    assert len(found) == 2 * 3 * len(SETTINGS["cpu"])
    assert len({each.name for each in found}) == len(found)
    assert found[0].name == "as given, fp32, 1 thread"


def test_a_gpu_is_not_asked_about_threads() -> None:
    assert {each.threads for each in candidates(["none"], "cuda", 4)} == {4}


def test_the_standard_is_the_given_file_with_nothing_set() -> None:
    assert standard("cpu", 4) == Candidate("none", 4)
    assert standard("openvino", 4) == Candidate("none", 4)


def test_forms_are_proven_files_above_the_given_ones_level(
    given: ModelFile, volumes: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    made = make_forms(given, tmp_path, "cpu", lambda: volumes, material="eight", limit=1e-5)
    assert made.models["none"] is given
    assert "fast" in made.models
    assert made.models["fast"].provenance["proof"]["material"] == "eight"
    assert {*made.models, *made.dropped} == {"none", "exact", "fast", "small"}
    again = make_forms(load_model_file(tmp_path / "fast.onnx"), tmp_path, "cpu", lambda: volumes, material="", limit=1)
    assert {*again.models, *again.dropped} == {"none", "small"}


def test_a_file_made_for_another_device_class_has_no_level_yet(
    given: ModelFile, volumes: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    made = make_forms(given, tmp_path, "cuda", lambda: volumes, material="eight", limit=1e-5)
    for_cuda = next(form for level, form in made.models.items() if level != "none")
    (tmp_path / "cpu").mkdir()
    again = make_forms(for_cuda, tmp_path / "cpu", "cpu", lambda: volumes, material="", limit=1)
    assert {*again.models, *again.dropped} == {"none", "exact", "fast", "small"}


def test_a_form_that_fails_the_proof_is_dropped_with_the_reason(
    given: ModelFile, volumes: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    made = make_forms(given, tmp_path, "cpu", lambda: volumes, material="eight", limit=0)
    assert "The proof does not hold" in made.dropped["fast"]
    assert not (tmp_path / "fast.onnx").exists()
