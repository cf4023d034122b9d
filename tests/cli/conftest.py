"""The command line as a user meets it: arguments in, exit code and both streams out."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ct3d_edge.cli.app import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("infer", path)``: the command in this process, through the entry point."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["ct3d-edge", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        else:
            code = 0
        streams = capsys.readouterr()
        assert "Traceback" not in streams.err
        return Outcome(code, streams.out, streams.err)

    return call
