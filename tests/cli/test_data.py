"""``ct3d-edge data fetch mosmed`` with a local server in the place of the published one."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_server import Content, HostileServer, dropping, hanging, status
from published import class_archive, entry, serve, tree, two_classes, zip_of

from ct3d_edge.datasets import fetch

from .conftest import Run

CLASSES = ("CT-0", "CT-23")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """Serves two small classes, which the command takes for the published ones."""
    with serve(monkeypatch) as running:
        monkeypatch.setattr(fetch, "MOSMED", two_classes(running))
        yield running


def test_licence_and_citation_come_before_the_download(run: Run, server: HostileServer, tmp_path: Path) -> None:
    outcome = run("data", "fetch", "mosmed", "--out", tmp_path / "ct")
    assert outcome.code == 0
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "MosMedData is published under CC BY-NC-ND 3.0",
        f"cite {fetch.CITATION.split(':')[0]}",
        "CT-0",
        "CT-23",
        "complete",
    ]
    assert lines[-1].endswith(f"3 scans in {tmp_path / 'ct' / 'CT-0'}, 3 scans in {tmp_path / 'ct' / 'CT-23'}")
    assert sorted(path.name for path in (tmp_path / "ct").iterdir()) == [*CLASSES, "sources.json"]


def test_the_real_citation_is_complete() -> None:
    assert fetch.LICENCE == "CC BY-NC-ND 3.0"
    assert fetch.CITATION == (
        'Morozov et al., "MosMedData: Chest CT Scans with COVID-19 Related Findings Dataset", 2020, arXiv:2005.06465'
    )


def test_running_it_again_asks_for_nothing(run: Run, server: HostileServer, tmp_path: Path) -> None:
    run("data", "fetch", "mosmed", "--out", tmp_path)
    before = tree(tmp_path)
    server.log.clear()
    outcome = run("data", "fetch", "mosmed", "--out", tmp_path)
    assert outcome.code == 0
    assert "complete: 3 scans in" in outcome.err
    assert server.log == []
    assert tree(tmp_path) == before


def test_archives_are_kept_if_asked_for(run: Run, server: HostileServer, tmp_path: Path) -> None:
    run("data", "fetch", "mosmed", "--out", tmp_path, "--keep-archives")
    assert (tmp_path / "CT-0.zip").read_bytes() == class_archive("CT-0")


def test_a_broken_connection_is_reported_and_resumed(run: Run, server: HostileServer, tmp_path: Path) -> None:
    server.script["/CT-0.zip"].append(dropping(100))
    outcome = run("data", "fetch", "mosmed", "--out", tmp_path)
    assert outcome.code == 0
    assert "CT-0: the connection ended after 100 of" in outcome.err
    assert server.ranges("/CT-0.zip") == [None, "bytes=100-"]


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("absent", 3, "the server answered 404 Not Found"),
        ("failing", 3, "500 Internal Server Error, at attempt 3 of 3"),
        ("other", 3, "bytes; {size} are published"),
        ("hostile", 2, "is a link"),
        ("in the way", 2, "is not what was fetched"),
    ],
)
def test_a_failure_is_one_sentence_with_its_exit_code(
    run: Run, server: HostileServer, tmp_path: Path, case: str, code: int, words: str
) -> None:
    link = zip_of([(entry("a.nii", mode=0o120777), b"/etc")])
    if case == "absent":
        server.script["/CT-0.zip"].append(status(404))
    elif case == "failing":
        server.script["/CT-0.zip"] += [status(500)] * 3
    elif case == "other":
        server.files["/CT-0.zip"] = Content(link)
    elif case == "hostile":
        server.files["/CT-0.zip"] = Content(link + bytes(len(class_archive("CT-0")) - len(link)))
    else:
        (tmp_path / "CT-0").mkdir()
    outcome = run("data", "fetch", "mosmed", "--out", tmp_path)
    assert outcome.code == code
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert words.format(size=len(class_archive("CT-0"))) in last
    assert not (tmp_path / "CT-0" / "study_0000.nii.gz").exists()
    assert not (tmp_path / "sources.json").exists()


def test_ctrl_c_leaves_what_can_be_resumed(run: Run, server: HostileServer, tmp_path: Path) -> None:
    main = threading.main_thread().ident
    assert main is not None
    part = tmp_path / "CT-0.zip.part"

    def press() -> None:
        while not (part.exists() and part.with_name("CT-0.zip.part.etag").exists()):
            server.release.wait(0.01)
        server.release.wait(0.3)  # for the bytes to arrive
        signal.pthread_kill(main, signal.SIGINT)

    server.script["/CT-0.zip"].append(hanging(100, press))
    outcome = run("data", "fetch", "mosmed", "--out", tmp_path)
    assert outcome.code not in {0, 2, 3}
    assert "stopped; the same command goes on from here" in outcome.err
    assert part.read_bytes() == class_archive("CT-0")[:100]
    assert run("data", "fetch", "mosmed", "--out", tmp_path).code == 0
    assert server.ranges("/CT-0.zip") == [None, "bytes=100-"]


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "mosmed"], ["fetch", "other", "--out", "x"]])
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    assert run("data", *arguments).code == 2


def test_help_says_what_is_fetched(run: Run) -> None:
    outcome = run("data", "fetch", "--help")
    assert "mosmed: the 200 chest CTs of the published tutorial" in " ".join(outcome.out.split())


def test_phantoms_are_not_mixed_with_what_is_there_unless_by_force(run: Run, tmp_path: Path) -> None:
    command = ("data", "synth", "--out", tmp_path / "set", "--num-scans", 1, "--shape", 32, 32, 8)
    assert run(*command).code == 0
    again = run(*command, "--seed", 1)
    assert again.code == 2
    assert "two sets would be mixed" in again.err
    assert run(*command, "--seed", 1, "--force").code == 0
