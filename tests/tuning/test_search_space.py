from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.conversion.graph_variant import CompileOptions
from ct3d_edge.conversion.parity.parity_data import CalibrationData, ParityDataset
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES
from ct3d_edge.errors import UsageError
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.tuning.candidate import LEVELS, Candidate, GraphForm
from ct3d_edge.tuning.search_space import (
    PROVIDER_SETTINGS,
    build_graph_forms,
    default_candidate,
    generate_candidates,
    list_thread_counts,
    permits_bf16,
    permitted_precisions,
)

IN_BETWEEN = {GraphForm("fast", "fp32", "cpu", "depth"), GraphForm("fast", "fp32", "cpu", "none")}


@pytest.mark.parametrize(("cores", "expected"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_threads_double_up_to_all_cores(cores: int, expected: tuple[int, ...]) -> None:
    assert list_thread_counts(cores) == expected


def test_every_combination_once_with_a_name_of_its_own() -> None:
    found = generate_candidates([GraphForm("none"), GraphForm("fast", "int8")], "cpu", 4)
    assert len(found) == 2 * 3 * len(PROVIDER_SETTINGS["cpu"])
    assert len({each.name for each in found}) == len(found)
    assert found[0].name == "as given, fp32, 1 thread"
    assert found[-1].name.startswith("fast, int8, 4 threads, ")


def test_a_gpu_is_not_asked_about_threads() -> None:
    assert {each.threads for each in generate_candidates([GraphForm("none")], "cuda", 4)} == {4}


def test_the_standard_is_the_given_file_with_nothing_set() -> None:
    assert default_candidate(GraphForm("none"), "cpu", 4) == Candidate("none", 4)
    assert default_candidate(GraphForm("none"), "openvino", 4) == Candidate("none", 4)


def test_forms_are_proven_files_above_the_given_ones_level(
    given: ModelFile, volumes: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    made = build_graph_forms(given, tmp_path, "cpu", ParityDataset(volumes, "eight", limit=1e-5))
    assert made.models[GraphForm("none")] is given
    assert GraphForm("fast") in made.models
    assert made.models[GraphForm("fast")].provenance["proof"]["material"] == "eight"
    assert {*made.models, *made.dropped} == {*map(GraphForm, LEVELS), *IN_BETWEEN}
    again = build_graph_forms(
        load_model_file(tmp_path / "fast-fp32-cpu-all.onnx"), tmp_path, "cpu", ParityDataset(volumes, "", limit=1)
    )
    assert {*again.models, *again.dropped} == {GraphForm("none"), GraphForm("small")}


def test_openvino_gets_its_own_forms_and_those_of_the_cpu(
    given: ModelFile, volumes: list[NDArray[np.float32]], calibration: CalibrationData, tmp_path: Path
) -> None:
    eight = ParityDataset(volumes, "eight")
    made = build_graph_forms(given, tmp_path, "openvino", eight, precisions=("int8",), calibration=calibration)
    forms = {*made.models, *made.dropped}
    own = {GraphForm("exact", "fp32", "openvino"), GraphForm("fast", "fp32", "openvino")}
    for_cpu = {GraphForm("fast"), GraphForm("small"), *IN_BETWEEN}
    assert forms == {GraphForm("none"), *own, *for_cpu, GraphForm("fast", "int8", "openvino")}
    taps = made.models[GraphForm("fast", "fp32", "openvino")]
    assert taps.optimized == ("fast", "openvino")
    assert taps.node_counts["Concat"] == 1
    assert GraphForm("fast", "fp32", "openvino").name == "fast for openvino, fp32"
    without_3d = load_model_file(tmp_path / "fast-fp32-cpu-all.onnx")
    (tmp_path / "again").mkdir()
    again = build_graph_forms(without_3d, tmp_path / "again", "openvino", ParityDataset(volumes, "", limit=1))
    assert {*again.models, *again.dropped} == {GraphForm("none"), GraphForm("small")}


def test_a_file_made_for_another_device_class_has_no_level_yet(
    given: ModelFile, volumes: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    made = build_graph_forms(given, tmp_path, "cuda", ParityDataset(volumes, "eight", limit=1e-5))
    for_cuda = next(file for form, file in made.models.items() if form.level != "none")
    (tmp_path / "cpu").mkdir()
    again = build_graph_forms(for_cuda, tmp_path / "cpu", "cpu", ParityDataset(volumes, "", limit=1))
    assert {*again.models, *again.dropped} == {*map(GraphForm, LEVELS), *IN_BETWEEN}


def test_forms_in_between_filter_less() -> None:
    assert [form.name for form in sorted(IN_BETWEEN, key=lambda form: form.filtering)] == [
        "fast filtered along depth, fp32",
        "fast unfiltered, fp32",
    ]
    assert CompileOptions(filtering="depth").winograd_axes == "depth"
    assert CompileOptions(filtering="none").winograd_axes == "none"
    assert CompileOptions(filtering="all", weight_dtype="fp16").winograd_axes == "depth"
    assert CompileOptions(filtering="all", precision="int8").winograd_axes == "none"


def test_a_form_that_fails_the_proof_is_dropped_with_the_reason(
    given: ModelFile, volumes: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    made = build_graph_forms(given, tmp_path, "cpu", ParityDataset(volumes, "eight", limit=0))
    assert "The parity check failed" in made.dropped[GraphForm("fast")]
    assert not (tmp_path / "fast-fp32-cpu-all.onnx").exists()


def test_precisions_by_their_names_and_any_by_what_the_provider_computes_in() -> None:
    assert permitted_precisions((), "cpu") == ()
    assert permitted_precisions(("int8", "fp16"), "cpu") == ("fp16", "int8")
    assert permitted_precisions(("any",), "cpu") == ("fp32", "int8")
    assert permitted_precisions(("any",), "cuda") == ("fp32", "fp16")
    assert permitted_precisions(("any",), "tensorrt") == ("fp32", "fp16", "int8")


def test_fewer_bits_are_tried_on_folded_graphs_and_proven_to_their_own_limit(
    given: ModelFile, volumes: list[NDArray[np.float32]], calibration: CalibrationData, tmp_path: Path
) -> None:
    made = build_graph_forms(
        given,
        tmp_path,
        "cpu",
        ParityDataset(volumes, "eight"),
        precisions=("fp32", "fp16"),
        calibration=calibration,
    )
    half = made.models[GraphForm("fast", "fp16")]
    assert half.arithmetic == "fp16"
    assert half.provenance["proof"]["limit"] == PRECISION_TOLERANCES["fp16"].probability
    assert half.provenance["precision"]["calibration"]["material"] == "eight of noise"
    assert {form.level for form in {*made.models, *made.dropped} if form.precision == "fp16"} == {"fast", "small"}
    again = build_graph_forms(
        half, tmp_path, "cpu", ParityDataset(volumes, "", limit=1), precisions=("fp32",), calibration=calibration
    )
    assert {form.precision for form in {*again.models, *again.dropped}} == {"fp16"}, "no bits come back"


def test_a_file_that_explains_itself_stays_as_it_is(
    given: ModelFile, volumes: list[NDArray[np.float32]], calibration: CalibrationData, tmp_path: Path
) -> None:
    explaining = replace(given, features=(1, 2))
    made = build_graph_forms(
        explaining, tmp_path, "cpu", ParityDataset(volumes, ""), precisions=("int8",), calibration=calibration
    )
    assert "Grad-CAM output" in made.dropped[GraphForm("fast", "int8")]


def test_openvino_is_asked_about_threads_and_rtx_is_not() -> None:
    assert {each.threads for each in generate_candidates([GraphForm("none")], "openvino", 4)} == {1, 2, 4}
    assert {each.threads for each in generate_candidates([GraphForm("none")], "nv-tensorrt-rtx", 4)} == {4}


def test_bf16_is_tried_on_openvino_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in (True, False):
        monkeypatch.setattr("ct3d_edge.tuning.search_space.detect_cpu_features", lambda found=native: {"BF16": found})
        assert permits_bf16(("any",), "openvino") is native
        assert not permits_bf16((), "openvino")
        assert not permits_bf16(("any", "bf16"), "cpu")
        if native:
            assert permits_bf16(("bf16",), "openvino")
        else:
            with pytest.raises(UsageError, match="bf16 would be emulated"):
                permits_bf16(("bf16",), "openvino")
    forms = [GraphForm("none"), GraphForm("fast", "int8")]
    found = generate_candidates(forms, "openvino", 1, bf16=True)
    assert [candidate.arithmetic for candidate in found] == ["fp32", "bf16", "int8"]
    assert [candidate.form for candidate in found] == [forms[0], forms[0], forms[1]]
    assert default_candidate(forms[0], "openvino", 1) == found[0]
