"""``ct3d-edge job``: one study in, one folder of results out."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge.extras import pip_install_command

from .conftest import Run

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
highdicom = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")

SERIES = "1.2.3"


@pytest.fixture
def study(tmp_path: Path, hu: NDArray[np.int16]) -> Path:
    """A series as mercure names its files, with the file that it adds."""
    folder = made.write_series(tmp_path / "data", hu, SERIES, name=f"{SERIES}#{SERIES}.{{}}.dcm")
    for file in folder.glob("*.dcm"):
        file.with_suffix(".tags").write_text('{"Modality": "CT"}')
    return Path(folder)


@pytest.fixture
def flat_study(tmp_path: Path, hu: NDArray[np.int16]) -> Path:
    """A series of one slice, which is refused."""
    made.write_series(tmp_path / "flat", hu[:, :, :1], "1.2.5")
    return tmp_path / "flat"


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_study_gets_a_result_and_a_structured_report(
    run: Run, study: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = run("job", "--in", study, "--out", out, "-m", make_model("chest.onnx"))
    assert outcome.code == 0, outcome.err
    assert names(out) == ["data_sr.dcm", "result.json"]
    answer = result(out)
    (record,) = answer["scans"]
    assert (answer["schema"], answer["status"], answer["files"]) == (1, "ok", ["data_sr.dcm"])
    assert answer["summary"] == f"{record['label']} {record['probability'][record['label']]:.4f}"
    assert not [key for key in answer if key.startswith("__mercure")]
    report = highdicom.sr.srread(out / "data_sr.dcm")
    assert (report.PatientID, report.ManufacturerModelName) == (made.PATIENT_ID, "chest")
    assert f"{study}: ok: {answer['summary']}" in outcome.err
    for text in ((out / "result.json").read_text(), outcome.err):
        assert made.PATIENT_ID not in text
        assert made.PATIENT_NAME not in text


def test_without_highdicom_the_message_names_both_ways_on(
    run: Run, study: Path, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda name: None if name == "highdicom" else find_spec(name))
    outcome = run("job", "--in", study, "--out", tmp_path / "out", "-m", make_model())
    assert outcome.code == 3
    assert f"needs highdicom, not installed here: {pip_install_command('dicom')}; or leave" in outcome.err
    assert "--no-dicom-sr" in outcome.err
    without = run("job", "--in", study, "--out", tmp_path / "out", "-m", make_model(), "--no-dicom-sr")
    assert (without.code, names(tmp_path / "out")) == (0, ["result.json"])


def test_further_outputs_are_written_where_asked(run: Run, study: Path, explaining_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--no-dicom-sr", "--gradcam", "--report", "--probability", "abnormal=probability.json")
    outcome = run("job", "--in", study, "--out", out, "-m", explaining_model, *options)
    assert outcome.code == 0, outcome.err
    answer = result(out)
    assert answer["files"] == ["data_gradcam.nii.gz", "data_gradcam.png", "probability.json", "report.html"]
    assert names(out) == [*answer["files"], "result.json"]
    assert json.loads((out / "probability.json").read_text()) == answer["scans"][0]["probability"]["abnormal"]


def test_a_line_names_the_scans_of_several_and_the_codes_of_their_flags(
    run: Run, tmp_path: Path, hu: NDArray[np.int16]
) -> None:
    both = tmp_path / "both"
    for name, uid in (("flat", "1.2.5"), ("whole", SERIES)):
        made.write_series(both, hu[:, :, :1] if name == "flat" else hu.repeat(4, axis=2), uid, name=name + "{}.dcm")
    outcome = run("job", "--in", both, "--out", tmp_path / "out", "--layout", "mercure", "--no-dicom-sr")
    answer = result(tmp_path / "out")
    assert len(answer["scans"]) == 2
    for part, record in zip(answer["summary"].split("; "), answer["scans"], strict=True):
        assert part.startswith(f"{Path(record['scan']).name}: ")
        if record["label"]:
            codes = dict.fromkeys(flag["code"] for flag in record["flags"])
            assert "demonstration_model" in codes
            assert part.endswith(f" ({', '.join(codes)})")
    assert "(single_slice)" in answer["summary"]
    assert answer["summary"] in outcome.err
    assert answer["__mercure_notification"]["text"].endswith(answer["summary"])


@pytest.mark.parametrize(("fail_on", "code"), [(None, 0), ("refused", 1), ("never", 0)])
def test_a_refused_scan_is_an_answer(
    run: Run, flat_study: Path, make_model: MakeModel, tmp_path: Path, fail_on: str | None, code: int
) -> None:
    options = ("--fail-on", fail_on) if fail_on else ()
    outcome = run("job", "--in", flat_study, "--out", tmp_path / "out", "-m", make_model(), *options)
    assert outcome.code == code
    answer = result(tmp_path / "out")
    assert (answer["status"], answer["files"]) == ("refused", [])
    assert answer["scans"][0]["error"]["code"] == "single_slice"
    assert answer["summary"] == "refused (single_slice)"


@pytest.mark.parametrize(("fail_on", "code"), [("error", 1), ("never", 0)])
def test_a_scan_that_cannot_be_read_is_an_error(
    run: Run, make_model: MakeModel, tmp_path: Path, fail_on: str, code: int
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scan.nii.gz").write_bytes(b"damaged")
    outcome = run("job", "--in", tmp_path / "in", "--out", tmp_path / "out", "-m", make_model(), "--fail-on", fail_on)
    assert outcome.code == code
    assert result(tmp_path / "out")["status"] == "error"


def test_a_study_without_a_scan_is_an_answer_with_the_reason(
    run: Run, study: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert run("job", "--in", tmp_path / "empty", "--out", tmp_path / "a", "-m", make_model()).code == 1
    assert (result(tmp_path / "a")["status"], result(tmp_path / "a")["error"]["code"]) == ("error", "no_scans")
    for file in study.glob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.Modality = "MR"
        dataset.save_as(file)
    assert run("job", "--in", study, "--out", tmp_path / "b", "-m", make_model()).code == 0
    answer = result(tmp_path / "b")
    assert (answer["status"], answer["error"]["code"]) == ("refused", "no_scans")
    assert answer["error"]["message"].endswith(f"{SERIES}: MR images, not CT")
    assert "--series-uid UID takes one of these anyway" in answer["summary"]


@pytest.fixture
def mercure(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment in which mercure starts a module."""
    (tmp_path / "output").mkdir()
    for prefix, suffix in (("MERCURE_{}_DIR", "{}"), ("HOLOSCAN_{}PUT_PATH", "{}"), ("MONAI_{}PUTPATH", "{}")):
        monkeypatch.setenv(prefix.format("IN"), str(study))
        monkeypatch.setenv(prefix.format("OUT"), str(tmp_path / suffix.format("output")))
    return study


def write_task(study: Path, **settings: object) -> None:
    task = {"id": "4", "info": {}, "process": {"module_name": "ct3d", "settings": settings}, "dispatch": {}}
    (study / "task.json").write_text(json.dumps(task))


def test_mercure_notifies_and_routes_by_settings_of_the_rule(
    run: Run, mercure: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model()
    write_task(mercure, notify=["normal"], target=["refused=LATER", "normal=discard"], dicom_sr=False, model=str(model))
    assert run("job").code == 0
    answer = result(tmp_path / "output")
    assert answer["__mercure_notification"] == {"text": f"ok: {answer['summary']}", "requested": True}
    assert answer["__mercure_routing"] == {"discard": True}
    assert names(tmp_path / "output") == ["result.json"]
    write_task(mercure, notify=["abnormal"], target=["abnormal=LATER"])
    assert run("job", "-m", model, "--target", "ok=PACS").code == 0
    answer = result(tmp_path / "output")
    assert answer["__mercure_notification"]["requested"] is False
    assert answer["__mercure_routing"] == {"target": "PACS"}
    assert answer["files"] == ["data_sr.dcm"]


def test_settings_that_are_no_options_are_all_named(run: Run, mercure: Path) -> None:
    write_task(mercure, fail_no="never", workers="two", report=1, out="/etc")
    outcome = run("job")
    assert outcome.code == 2
    source = f"{mercure}/task.json: process.settings"
    assert outcome.err.removeprefix("error: ").splitlines()[:3] == [
        f"{source}.fail_no: there is no such option. Did you mean fail-on?",
        f"{source}.workers: 'two' is not a whole number.",
        f"{source}.report: takes true or false, found a whole number 1.",
    ]
    assert f"{source}.out: there is no such option." in outcome.err


def test_the_environment_goes_before_the_task_file_and_the_command_line_before_both(
    run: Run, mercure: Path, flat_study: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MERCURE_IN_DIR", str(flat_study))
    write_task(flat_study, fail_on="refused", model=str(make_model()))
    assert run("job").code == 1
    monkeypatch.setenv("CT3D_EDGE_JOB_FAIL_ON", "never")
    monkeypatch.setenv("CT3D_EDGE_JOB_DICOM_SR", "false")
    assert run("job").code == 0
    assert run("job", "--fail-on", "refused").code == 1


def test_studies_are_answered_in_folders_of_their_own(
    run: Run, study: Path, flat_study: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    items = tmp_path / "items"
    items.mkdir()
    study.rename(items / "one")
    flat_study.rename(items / "two")
    out = tmp_path / "out"
    assert run("job", "--layout", "studies", "--in", items, "--out", out, "-m", make_model()).code == 0
    assert [result(out / name)["status"] for name in ("one", "two")] == ["ok", "refused"]
    assert names(out / "one") == ["one_sr.dcm", "result.json"]


def test_a_class_that_the_model_lacks_is_named_before_a_prediction(
    run: Run, study: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    outcome = run("job", "--in", study, "--out", tmp_path / "out", "-m", make_model(), "--probability", "covid=p.json")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (
        2,
        "error: The model has no class 'covid'; it has normal, abnormal.",
    )
    assert names(tmp_path / "out") == []


def test_a_probability_of_two_scans_fails_their_study_alone(
    run: Run, study: Path, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    items, out = tmp_path / "items", tmp_path / "out"
    for name in ("a.nii.gz", "b.nii.gz"):
        make_scan(name, folder=items / "one")
    study.rename(items / "two")
    options = ("--layout", "studies", "--in", items, "--out", out, "-m", make_model())
    outcome = run("job", *options, "--probability", "normal=p.json")
    assert outcome.code == 1, outcome.err
    answer = result(out / "one")
    assert (answer["status"], answer["error"]["code"]) == ("error", "several_predictions")
    assert answer["summary"].startswith("2 scans have a prediction; a single probability belongs to a single scan.; ")
    assert all(scan["label"] for scan in answer["scans"])
    assert names(out / "one") == ["result.json"]
    assert names(out / "two") == ["p.json", "result.json", "two_sr.dcm"]
    assert run("job", *options, "--probability", "normal=p.json", "--fail-on", "never").code == 0


@pytest.mark.parametrize("name", ["../../x.json", "/x.json", "a/x.json", "..", ".", "a\\x.json", "Result.json", "x\ny"])
def test_a_probability_is_written_to_a_plain_name_alone(
    run: Run, mercure: Path, make_model: MakeModel, tmp_path: Path, name: str
) -> None:
    write_task(mercure, probability=[f"abnormal={name}"])
    for outcome in (run("job", "-m", make_model()), run("job", "-m", make_model(), "--probability", f"normal={name}")):
        assert outcome.code == 2
        assert "--probability" in outcome.err
        assert names(tmp_path / "output") == []


def test_probabilities_are_not_written_over_one_another_or_a_folder(
    run: Run, study: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    options = ("job", "--in", study, "--out", tmp_path / "out", "-m", make_model())
    assert "--probability takes CLASS=FILE, found 'p.json'" in run(*options, "--probability", "p.json").err
    both = run(*options, "--probability", "normal=p.json", "--probability", "abnormal=p.json")
    assert (both.code, "names p.json for several classes" in both.err) == (2, True)
    (tmp_path / "out" / "p.json").mkdir(parents=True)
    assert run(*options, "--probability", "normal=p.json").code == 2
    assert names(tmp_path / "out") == ["p.json"]


def test_an_unknown_layout_is_named(run: Run, tmp_path: Path) -> None:
    outcome = run("job", "--layout", "flywheel", "--in", tmp_path, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "'flywheel' is not one of 'folder', 'studies', 'mercure'" in outcome.err


def test_kaapanas_batch_is_answered_item_by_item(
    run: Run, study: Path, flat_study: Path, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = tmp_path / "workflow" / "batch"
    for item, source in (("one", study), ("two", flat_study)):
        (batch / item).mkdir(parents=True)
        source.rename(batch / item / "dicom")
    variables = {"WORKFLOW_DIR": tmp_path / "workflow", "BATCH_NAME": "batch", "OPERATOR_IN_DIR": "dicom"}
    for name, value in {**variables, "OPERATOR_OUT_DIR": "ct3d"}.items():
        monkeypatch.setenv(name, str(value))
    assert run("job", "-m", make_model()).code == 0
    assert names(batch / "one" / "ct3d") == ["dicom_sr.dcm", "result.json"]
    assert result(batch / "two" / "ct3d")["status"] == "refused"


@pytest.mark.parametrize("variables", ["HOLOSCAN_{}PUT_PATH", "MONAI_{}PUTPATH"])
def test_a_package_finds_folders_and_model_by_its_variables(
    run: Run, study: Path, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: str
) -> None:
    (tmp_path / "models" / "chest").mkdir(parents=True)
    make_model("packaged.onnx").rename(tmp_path / "models" / "chest" / "packaged.onnx")
    monkeypatch.setenv(variables.format("IN"), str(study))
    monkeypatch.setenv(variables.format("OUT"), str(tmp_path / "output"))
    monkeypatch.setenv("HOLOSCAN_MODEL_PATH", str(tmp_path / "models"))
    assert run("job").code == 0
    assert names(tmp_path / "output") == ["data_sr.dcm", "result.json"]
    assert pydicom.dcmread(tmp_path / "output" / "data_sr.dcm").ManufacturerModelName == "packaged"
    assert not [key for key in result(tmp_path / "output") if key.startswith("__mercure")]


def test_grand_challenge_gives_a_metaimage_and_gets_a_bare_number(
    run: Run, hu: NDArray[np.int16], make_model: MakeModel, tmp_path: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK, which writes the file, is not installed")
    image = sitk.GetImageFromArray(np.ascontiguousarray(hu.transpose(2, 1, 0)))
    image.SetSpacing((2.0, 3.0, 8.0))
    folder = tmp_path / "input" / "images" / "ct"
    folder.mkdir(parents=True)
    sitk.WriteImage(image, str(folder / "0a1b2c3d.mha"), useCompression=True)
    (tmp_path / "input" / "inputs.json").write_text("[]")
    options = ("--probability", "abnormal=probability-covid-19.json", "-m", make_model())
    outcome = run(
        "job", "--layout", "grand-challenge", "--in", tmp_path / "input", "--out", tmp_path / "output", *options
    )
    assert outcome.code == 0, outcome.err
    (record,) = result(tmp_path / "output")["scans"]
    assert Path(record["scan"]).name == "0a1b2c3d.mha"
    number = json.loads((tmp_path / "output" / "probability-covid-19.json").read_text())
    assert number == record["probability"]["abnormal"]


def test_the_last_module_of_a_chain_ignores_answers_of_the_first(
    run: Run, mercure: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    """mercure gives the output of a module to the next one as its input."""
    model = make_model()
    write_task(mercure)
    assert run("job", "-m", model).code == 0
    first = result(tmp_path / "output")
    for path in (tmp_path / "output").glob("*.dcm"):
        path.rename(mercure / path.name)
    assert run("job", "-m", model).code == 0
    again = result(tmp_path / "output")
    assert [scan["probability"] for scan in again["scans"]] == [scan["probability"] for scan in first["scans"]]
