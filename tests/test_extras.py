import json
import os
from pathlib import Path

import pytest

from ct3d_edge.errors import MissingExtraError
from ct3d_edge.extras import pip_install_command, require_extra


def test_what_is_installed_passes() -> None:
    require_extra("evaluate", ["numpy", "json"])


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(
        MissingExtraError, match=r"needs no_such_a, no_such_b, not installed here: pip install "
    ) as told:
        require_extra("evaluate", ["no_such_a", "numpy", "no_such_b"])
    assert str(told.value).endswith(pip_install_command("evaluate"))


def test_a_distribution_of_another_name_is_named_as_pip_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs scikit-learn, not"):
        require_extra("evaluate", ["sklearn"])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in the search for installed distributions, and is not the current one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir("/")
    return tmp_path


def install(place: Path, origin: object = None) -> None:
    """Pretend that pip installed ct3d-edge, and noted where it came from."""
    folder = place / "ct3d_edge-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: ct3d-edge\nVersion: 0.1.0\n")
    if origin is not None:
        (folder / "direct_url.json").write_text(json.dumps(origin))


@pytest.mark.parametrize("editable", [False, True])
def test_a_checkout_is_installed_from_its_folder(place: Path, editable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = place / "a check{out}"
    checkout.mkdir()
    install(place, {"url": checkout.as_uri(), "dir_info": {"editable": editable}})
    option = "--editable " if editable else ""
    assert pip_install_command("train") == f'pip install {option}"{checkout}[train]"'
    monkeypatch.chdir(checkout)
    assert pip_install_command("train") == f'pip install {option}".[train]"'
    assert pip_install_command("", "--force-reinstall") == f"pip install {option}. --force-reinstall"


def test_a_wheel_is_installed_from_its_file(place: Path) -> None:
    wheel = place / "ct3d_edge-0.1.0-py3-none-any.whl"
    wheel.touch()
    install(place, {"url": wheel.as_uri(), "archive_info": {}})
    assert pip_install_command("dicom") == f'pip install "{wheel}[dicom]"'


def test_what_has_gone_is_installed_from_a_checkout(place: Path) -> None:
    install(place, {"url": (place / "gone").as_uri(), "dir_info": {}})
    assert pip_install_command("dicom") == 'pip install ".[dicom]"'


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "ct3d-edge[train]"'),
        (
            {"url": "https://host/ct3d_edge-0.1.0-py3-none-any.whl", "archive_info": {}},
            'pip install "ct3d-edge[train] @ https://host/ct3d_edge-0.1.0-py3-none-any.whl"',
        ),
        (
            {"url": "https://host/ct3d-edge", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            'pip install "ct3d-edge[train] @ git+https://host/ct3d-edge"',
        ),
    ],
    ids=["found by name", "address of a wheel", "repository"],
)
def test_what_came_from_elsewhere_is_installed_from_there(place: Path, origin: object, command: str) -> None:
    install(place, origin)
    assert pip_install_command("train") == command


def test_without_an_installation_it_is_the_checkout_in_use() -> None:
    """Run from its folder, with nothing installed that bears its name."""
    import subprocess
    import sys

    root = Path(__file__).parents[1]
    program = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from ct3d_edge.extras import "
        "pip_install_command as p; print(p('x'))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, cwd=os.sep)
    assert done.stdout == f'pip install "{root}[x]"\n'
