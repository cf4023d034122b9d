"""A folder of phantoms is the same however many processes make it."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ct3d_edge.datasets.phantoms.phantom import synthesise
from ct3d_edge.errors import UsageError

SHAPE = (32, 32, 16)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    synthesise(folder, 4, 7, shape=SHAPE, workers=1)
    return folder


def test_folders_name_the_classes_and_every_abnormal_has_its_lesions(alone: Path) -> None:
    assert sorted(files(alone)) == [
        "lesions/phantom_0001_mask.nii.gz",
        "lesions/phantom_0003_mask.nii.gz",
        "scans/abnormal/phantom_0001.nii.gz",
        "scans/abnormal/phantom_0003.nii.gz",
        "scans/normal/phantom_0000.nii.gz",
        "scans/normal/phantom_0002.nii.gz",
    ]
    assert nib.load(alone / "lesions" / "phantom_0001_mask.nii.gz").get_fdata().any()


def test_two_processes_write_the_same_bytes(alone: Path, tmp_path: Path) -> None:
    synthesise(tmp_path, 4, 7, shape=SHAPE, workers=2)
    assert files(tmp_path) == files(alone)


def test_a_phantom_depends_on_its_number_and_not_on_how_many_follow(alone: Path, tmp_path: Path) -> None:
    (first,) = synthesise(tmp_path, 1, 7, shape=SHAPE, workers=1)
    assert first.read_bytes() == files(alone)["scans/normal/phantom_0000.nii.gz"]


def test_no_two_phantoms_are_alike(alone: Path, tmp_path: Path) -> None:
    # Seed 8 must not begin with what seed 7 has second.
    synthesise(tmp_path, 4, 8, shape=SHAPE, workers=1)
    content = [*files(alone).values(), *files(tmp_path).values()]
    assert len(set(content)) == len(content)


def test_paths_are_returned_and_announced_in_order(tmp_path: Path) -> None:
    seen: list[Path] = []
    paths = synthesise(tmp_path, 3, 1, shape=SHAPE, workers=1, on_scan=seen.append)
    assert seen == paths
    assert [path.parent.name for path in paths] == ["normal", "abnormal", "normal"]
    assert all(np.asanyarray(nib.load(path).dataobj).shape == SHAPE for path in paths)


def test_none_is_none(tmp_path: Path) -> None:
    assert synthesise(tmp_path, 0, 1) == []
    assert not files(tmp_path)


@pytest.mark.parametrize(("scans", "seed", "workers"), [(-1, 0, 1), (1, -1, 1), (1, 0, 0)])
def test_impossible_numbers_are_refused(tmp_path: Path, scans: int, seed: int, workers: int) -> None:
    with pytest.raises(UsageError, match="Need scans"):
        synthesise(tmp_path, scans, seed, workers=workers)


def test_a_script_without_a_main_guard_is_named_as_the_cause(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    call = f"synthesise(Path({str(tmp_path / 'out')!r}), 2, 0, shape={SHAPE}, workers=2)"
    script.write_text(f"from pathlib import Path\nfrom ct3d_edge.datasets.phantoms.phantom import synthesise\n{call}\n")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "WorkerError: A worker process ended early" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_in_the_place_of_a_folder_is_reported(tmp_path: Path, workers: int) -> None:
    (tmp_path / "scans").write_text("in the way")
    with pytest.raises(UsageError, match="Cannot make the folder"):
        synthesise(tmp_path, 2, 0, shape=SHAPE, workers=workers)
