"""The image, built by buildah without network on a root file system of Debian packages, and run as mercure runs it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.isolation import ANY_UID, ROOT, UNSHARE, missing_privilege

made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")

PROGRAMS = ("buildah", "mmdebstrap", "unshare")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
REASON = f"{MISSING[0]} is not installed" if MISSING else missing_privilege()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=f"cannot build and run an image: {REASON}"),
]
NAMES = ("localhost/ct3d-edge-test-base", "localhost/ct3d-edge-test")

RUN = """
set -e
root=$1 user=$2; shift 2
mount --rbind "$root" /mnt
mount --bind "$STUDY" /mnt"$IN"
mount --bind "$ANSWERS" /mnt"$OUT"
mount --bind /proc /mnt/proc
mount --bind /dev /mnt/dev
mount -o remount,bind,ro /mnt
mount -o remount,bind,ro /mnt"$IN"
if touch /mnt/tmp/written-by-test 2>/dev/null; then echo "the root can be written to" >&2; exit 99; fi
exec chroot /mnt /usr/bin/setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all /usr/bin/env -i "$@"
"""


def run(*command: object) -> str:
    """Run a program of the host; its standard output."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"
    return done.stdout


def download(*command: object) -> None:
    """Run a program that gets packages; the tests are skipped where there is no network."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        pytest.skip(f"{command[0]} cannot get packages here: {done.stderr.strip().splitlines()[-1:]}")


@dataclass(frozen=True)
class Image:
    """A container made of the image: its configuration and its root file system."""

    config: dict[str, Any]
    root: Path

    def run(self, environment: Mapping[str, str], study: Path, out: Path, source: str, target: str) -> str:
        """Run the image's command for a study that is mounted at ``source``, the answers at ``target``."""
        for path in (source, target):  # as container engines make mount points
            (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in environment.items())]
        done = subprocess.run(
            [UNSHARE, "-n", "-m", "/bin/sh", "-c", RUN, "sh", self.root, str(ANY_UID), *variables, *self.config["Cmd"]],
            env={
                "STUDY": str(study),
                "ANSWERS": str(out),
                "IN": source,
                "OUT": target,
                "PATH": "/usr/sbin:/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image of `container/Containerfile`, built once."""
    folder = tmp_path_factory.mktemp("image")
    context = shutil.copytree(ROOT / "container", folder / "context")
    download(sys.executable, "-m", "pip", "wheel", "-q", "-c", "constraints.txt", "-w", context / "wheels", ".[dicom]")
    download("mmdebstrap", "--variant=minbase", "--include=python3,python3-venv", "bookworm", folder / "base.tar")
    containers = []
    try:
        containers.append(run("buildah", "from", "scratch").strip())
        run("buildah", "add", "-q", containers[0], folder / "base.tar", "/")
        run("buildah", "commit", "-q", containers[0], NAMES[0])
        build = ("buildah", "bud", "-q", "--isolation", "chroot", "--pull-never", "--build-arg", f"BASE={NAMES[0]}")
        run("unshare", "-n", *build, "-t", NAMES[1], context)
        containers.append(run("buildah", "from", "--pull-never", NAMES[1]).strip())
        config = json.loads(run("buildah", "inspect", "--type", "image", NAMES[1]))["OCIv1"]["config"]
        yield Image(config, Path(run("buildah", "mount", containers[1]).strip()))
    finally:
        for container in containers:
            run("buildah", "rm", container)
        for name in NAMES:
            subprocess.run([str(shutil.which("buildah")), "rmi", name], capture_output=True, check=False)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A series of a body with two lungs."""
    columns, rows, _ = np.indices((64, 64, 40)).astype(np.float32) - 32
    body = columns**2 + rows**2 < 28**2
    lungs = (abs(columns) - 12) ** 2 + rows**2 < 90
    hu = np.where(lungs, -850, np.where(body, 40, -1000)).astype(np.int16)
    return Path(made.write_series(tmp_path / "study", hu, "1.2.3"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "answers"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def answer(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "result.json").read_text())
    return content


def test_labels_user_and_manifests(image: Image) -> None:
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == "ct3d-edge"
    assert labels["org.opencontainers.image.version"] == version("ct3d-edge")
    assert image.config["User"] == "65534:65534"
    app, package = (json.loads((image.root / "etc/holoscan" / name).read_text()) for name in ("app.json", "pkg.json"))
    assert (image.root / app["command"].split()[0].lstrip("/")).exists()
    for model in package["models"]:
        assert (image.root / package["modelRoot"].lstrip("/") / model["path"]).is_file()
    assert (image.root / "processing-container.json").is_file()
    assert not (image.root / "etc/monai").exists()
    assert not list((image.root / "tmp").iterdir()), "wheels are not in the image"


def test_it_runs_as_a_map_without_further_variables(image: Image, study: Path, out: Path) -> None:
    image.run({}, study, out, "/var/holoscan/input", "/var/holoscan/output")
    assert answer(out)["status"] in ("ok", "warn", "refused")
    assert {path.stat().st_uid for path in out.iterdir()} == {ANY_UID}


def test_it_runs_as_a_module_of_mercure(image: Image, study: Path, out: Path) -> None:
    settings = {"fail_on": "never", "downgrade_check": ["few_slices"], "notify": ["refused", "warn", "normal"]}
    (study / "task.json").write_text(json.dumps({"process": {"settings": settings}}))
    source, target = "/mercure/data", "/mercure/output"
    variables = {"MERCURE_IN_DIR": source, "MERCURE_OUT_DIR": target}
    variables |= {"HOLOSCAN_INPUT_PATH": source, "HOLOSCAN_OUTPUT_PATH": target}
    image.run(variables, study, out, source, target)
    assert answer(out)["__mercure_notification"]["text"].startswith(f"{answer(out)['status']}: ")


def test_it_runs_in_the_layout_of_grand_challenge(image: Image, study: Path, out: Path, tmp_path: Path) -> None:
    images = tmp_path / "input" / "images" / "ct"
    images.mkdir(parents=True)
    study.rename(images / "study")
    for path in ("var/holoscan/input", "var/holoscan/output"):  # mount points of the test before
        if (image.root / path).exists():
            (image.root / path).rmdir()
    image.run({}, tmp_path / "input", out, "/input", "/output")
    assert len(answer(out)["scans"]) == 1
