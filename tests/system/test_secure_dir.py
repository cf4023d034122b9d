import os
import stat
from pathlib import Path

import pytest

from ct3d_edge.errors import ProviderError
from ct3d_edge.system.secure_dir import insecure_reason, make_secure_dir

pytestmark = pytest.mark.skipif(os.name != "posix", reason="this system has no POSIX permissions")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_its_users_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    before = os.umask(0)
    try:
        make_secure_dir(tmp_path / "a" / "engines")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a" / "engines") == 0o700


def test_a_folder_that_others_can_only_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir(mode=0o755)
    make_secure_dir(tmp_path / "engines")
    assert mode(tmp_path / "engines") == 0o700


@pytest.mark.parametrize("permissions", [0o770, 0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_refused_and_left_alone(tmp_path: Path, permissions: int) -> None:
    folder = tmp_path / "engines"
    folder.mkdir()
    folder.chmod(permissions)
    with pytest.raises(ProviderError, match=r"others can write to engines\. .* set CT3D_EDGE_ENGINES"):
        make_secure_dir(folder)
    assert mode(folder) == permissions


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "engines").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProviderError, match="engines is a link"):
        make_secure_dir(tmp_path / "engines")


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert insecure_reason(tmp_path) == f"{tmp_path.name} belongs to another user"


def test_a_folder_that_anybody_could_replace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ProviderError, match=f"anybody can write to {tmp_path / 'open'} above it"):
        make_secure_dir(tmp_path / "open" / "engines")
    (tmp_path / "open").chmod(0o1777)  # as /tmp: only its owner can rename what is in it
    make_secure_dir(tmp_path / "open" / "engines")


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "engines").touch()
    with pytest.raises(ProviderError, match="cannot be made or looked at"):
        make_secure_dir(tmp_path / "engines" / "gpu")
