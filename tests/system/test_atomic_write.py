import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from products import each_value

from ct3d_edge.errors import DiskError, OutputError, UsageError
from ct3d_edge.system.atomic_write import atomic_file, make_folder, require_writable, write_failure_message


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the process's umask for one test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write(path: Path, data: bytes) -> None:
    with atomic_file(path) as stream:
        stream.write(data)


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_file(path) as stream:
        stream.write(b"half")
        raise error


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"\0\r\n\xff", b"x" * 100_000])
def test_a_file_holds_exactly_what_was_written(tmp_path: Path, data: bytes) -> None:
    write(tmp_path / "out.bin", data)
    assert (tmp_path / "out.bin").read_bytes() == data
    assert files_in(tmp_path) == ["out.bin"]


def test_an_existing_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"before")
    with atomic_file(path) as stream:
        stream.write(b"after")
        stream.flush()
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"


def test_a_new_file_is_not_there_before_the_end(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "out.bin") as stream:
        stream.write(b"half")
        stream.flush()
        assert not (tmp_path / "out.bin").exists()


@pytest.mark.parametrize(
    ("error", "before"), each_value([ValueError, KeyboardInterrupt, SystemExit, GeneratorExit], [None, b"before"])
)
def test_a_failure_leaves_everything_as_it_was(
    tmp_path: Path, before: bytes | None, error: type[BaseException]
) -> None:
    path = tmp_path / "out.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(error):
        write_half(path, error)
    assert files_in(tmp_path) == ([] if before is None else ["out.bin"])
    assert before is None or path.read_bytes() == before


def test_an_error_of_the_disk_is_told_as_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskError, match=r"Cannot write .*out\.bin: No space left"),
        atomic_file(tmp_path / "out.bin"),
    ):
        raise OSError(28, "No space left on device")
    assert files_in(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(
    ("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0, 0o666)], indirect=["umask"]
)
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    write(tmp_path / "out.bin", b"data")
    assert (tmp_path / "out.bin").stat().st_mode & 0o777 == mode
    assert os.umask(umask) == umask


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No such file or directory\. Create the folder .*nowhere first\."):
        write(tmp_path / "nowhere" / "out.bin", b"data")
    assert files_in(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Cannot write"):
        write(tmp_path / "file" / "out.bin", b"data")


def test_a_folder_in_the_place_of_the_file_is_a_usage_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="Cannot write"):
        write(tmp_path / "out", b"data")
    assert files_in(tmp_path) == ["out"]


def test_a_relative_path_is_written_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("out.bin"), b"data")
    assert files_in(tmp_path) == ["out.bin"]


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_file(tmp_path / "link") as stream:
        stream.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    for write in (require_writable, lambda target: atomic_file(target).__enter__()):
        with pytest.raises(UsageError, match="that is not a file"):
            write(path)
    assert not path.is_file()


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    require_writable(path)
    with atomic_file(path) as stream:
        stream.write(b"x")
    assert path.read_bytes() == b"x"


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="Cannot make the folder"):
            make_folder(place)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskError), (errno.EIO, DiskError), (errno.EROFS, OutputError), (errno.EACCES, OutputError),
     (errno.ENOENT, UsageError), (errno.EISDIR, UsageError), (None, UsageError)],
)  # fmt: skip
def test_what_the_system_says_decides_the_exit_code(number: int | None, kind: type[Exception]) -> None:
    error = write_failure_message(Path("a.json"), OSError(number, "so it is") if number else OSError("so it is"))
    assert type(error) is kind
    assert str(error) == "Cannot write a.json: so it is."
