from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

from .conftest import Run


@pytest.fixture
def commands(make_model: MakeModel, make_scan: MakeScan) -> dict[str, list[object]]:
    """Each command that opens a session, with what it cannot do without."""
    model: Path = make_model()
    return {
        "infer": ["infer", make_scan(), "--model", model],
        "verify": ["verify", model],
        "bench": ["bench", "--model", model, "--scans", make_scan("bench.nii"), "--runs", 2],
    }


ALL = pytest.mark.parametrize("command", ["infer", "verify", "bench"])


@ALL
def test_an_option_reaches_the_session(run: Run, commands: dict[str, list[object]], command: str) -> None:
    outcome = run(*commands[command], "--provider", "cpu", "--provider-option", "intra_op_num_threads=1")
    assert outcome.code == 0
    assert ", 1 threads" in outcome.err


@ALL
def test_a_wrong_option_is_answered_with_the_right_ones(
    run: Run, commands: dict[str, list[object]], command: str
) -> None:
    outcome = run(*commands[command], "--provider", "cpu", "--provider-option", "threads=1")
    assert outcome.code == 2
    assert "no option 'threads=1'. Valid are: intra_op_num_threads=a whole number from 1 to 1024;" in outcome.err


@ALL
def test_an_option_needs_a_provider_by_name(run: Run, commands: dict[str, list[object]], command: str) -> None:
    outcome = run(*commands[command], "--provider-option", "use_tf32=1")
    assert outcome.code == 2
    assert "Name it with --provider" in outcome.err


@ALL
def test_the_cpu_has_no_device_by_number(run: Run, commands: dict[str, list[object]], command: str) -> None:
    assert run(*commands[command], "--provider", "cpu", "--device-id", 0).code == 2
    assert run(*commands[command], "--device-id", -1).code == 2
