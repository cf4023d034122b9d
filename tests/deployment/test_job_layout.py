"""Where a job looks for its study, by the conventions of each system."""

import json
from pathlib import Path

import pytest

from ct3d_edge.deployment.job_layout import Study, find_layout, find_model
from ct3d_edge.errors import UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system with nothing but folders for input."""
    for folder in ("work/in", "var/holoscan/input", "in", "kaapana/batch/a/dicom", "kaapana/batch/b/dicom"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def folders(root: Path, source: str, out: str) -> tuple[Study, ...]:
    return (Study(root / source, root / out),)


def test_mercure_is_recognised_though_it_sets_the_variables_of_map_too(root: Path) -> None:
    environment = {
        "MERCURE_IN_DIR": f"{root}/work/in",
        "MERCURE_OUT_DIR": f"{root}/work/out",
        "HOLOSCAN_INPUT_PATH": f"{root}/work/in",
        "HOLOSCAN_OUTPUT_PATH": f"{root}/work/out",
    }
    (root / "work/in/task.json").write_text(
        json.dumps({"id": "1", "process": {"module_name": "ct3d", "settings": {"fail_on": "never"}}})
    )
    layout = find_layout(None, None, None, environment, root)
    assert (layout.name, layout.studies) == ("mercure", folders(root, "work/in", "work/out"))
    assert layout.settings == {"fail_on": "never"}
    assert layout.settings_source == f"{root}/work/in/task.json: process.settings"


def test_settings_of_ct3d_edge_alone_are_taken_where_modules_share_them(root: Path) -> None:
    task = {"process": {"settings": {"series_offset": 3, "ct3d-edge": {"report": True}}}}
    (root / "in/task.json").write_text(json.dumps(task))
    assert find_layout("mercure", root / "in", root / "out", {}).settings == {"report": True}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("[]", "is a JSON list, not an object."),
        ("{", "is not valid JSON"),
        ('{"process": [{"settings": {}}]}', "process.settings is no object of settings."),
        ('{"process": {"settings": "a"}}', "process.settings is no object of settings."),
    ],
)
def test_a_damaged_task_file_is_refused(root: Path, task: str, message: str) -> None:
    (root / "in/task.json").write_text(task)
    with pytest.raises(UsageError, match=r"task\.json.*" + message):
        find_layout("mercure", root / "in", root / "out", {})


def test_map_takes_both_names_of_its_variables(root: Path) -> None:
    for names in (("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"), ("MONAI_INPUTPATH", "MONAI_OUTPUTPATH")):
        layout = find_layout(None, None, None, dict(zip(names, (f"{root}/in", f"{root}/out"), strict=True)), root)
        assert (layout.name, layout.studies) == ("map", folders(root, "in", "out"))
    relative = {"HOLOSCAN_WORKDIR": f"{root}/var/holoscan", "HOLOSCAN_INPUT_PATH": "input", "HOLOSCAN_OUTPUT_PATH": "o"}
    assert find_layout(None, None, None, relative, root).studies == folders(
        root, "var/holoscan/input", "var/holoscan/o"
    )


def test_kaapana_has_a_folder_for_each_study(root: Path) -> None:
    environment = {
        "WORKFLOW_DIR": "kaapana",
        "BATCH_NAME": "batch",
        "OPERATOR_IN_DIR": "dicom",
        "OPERATOR_OUT_DIR": "ct3d",
        "HOLOSCAN_INPUT_PATH": f"{root}/in",
        "HOLOSCAN_OUTPUT_PATH": f"{root}/out",
    }
    layout = find_layout(None, None, None, environment, root)
    batch = root / "kaapana/batch"
    assert layout.name == "kaapana"
    assert layout.studies == tuple(Study(batch / item / "dicom", batch / item / "ct3d") for item in "ab")


def test_studies_have_folders_of_answers_of_the_same_names(root: Path) -> None:
    layout = find_layout("studies", root / "kaapana/batch", root / "out", {})
    assert [study.out for study in layout.studies] == [root / "out/a", root / "out/b"]
    with pytest.raises(UsageError, match="in holds no folder; with this layout each study has one"):
        find_layout("studies", root / "in", root / "out", {})


def test_grand_challenge_is_recognised_by_its_folder(root: Path) -> None:
    (root / "input/images/ct").mkdir(parents=True)
    layout = find_layout(None, None, None, {}, root)
    assert (layout.name, layout.studies) == ("grand-challenge", folders(root, "input", "output"))


def test_a_layout_whose_input_is_missing_is_passed_over(root: Path) -> None:
    environment = {
        "MERCURE_IN_DIR": f"{root}/none",
        "MERCURE_OUT_DIR": f"{root}/out",
        "HOLOSCAN_INPUT_PATH": f"{root}/in",
        "HOLOSCAN_OUTPUT_PATH": f"{root}/out",
    }
    assert find_layout(None, None, None, environment, root).name == "map"
    with pytest.raises(UsageError, match=f"There is no folder {root}/none"):
        find_layout("mercure", None, None, environment, root)


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(UsageError, match="give --in DIR and --out DIR, or run in the environment of mercure, kaapana,"):
        find_layout(None, None, None, {}, root)
    with pytest.raises(UsageError, match="The layout kaapana has no folders in this environment"):
        find_layout("kaapana", None, None, {}, root)
    with pytest.raises(UsageError, match="--in and --out belong together"):
        find_layout(None, root / "in", None, {}, root)
    with pytest.raises(UsageError, match=f"There is no folder {root}/none"):
        find_layout(None, root / "none", root / "out", {}, root).check_folders()


def test_answers_are_not_written_among_the_scans(root: Path) -> None:
    (root / "link").symlink_to(root / "in")
    for out in ("in", "in/out", "link/out"):
        with pytest.raises(UsageError, match="must not be written among the scans"):
            find_layout(None, root / "in", root / out, {}, root).check_folders()


def test_the_model_of_a_package_is_found(root: Path) -> None:
    models = root / "opt/holoscan/models"
    environment = {"HOLOSCAN_MODEL_PATH": str(models)}
    assert find_model(environment, root) is None
    for folder in (models / "chest", root / "opt/ml/model"):
        folder.mkdir(parents=True)
        (folder / "model.onnx").touch()
    assert find_model({}, root) == root / "opt/ml/model/model.onnx"
    assert find_model(environment, root) == models / "chest/model.onnx"
    (models / "second.onnx").touch()
    with pytest.raises(UsageError, match="holds several models"):
        find_model(environment, root)
