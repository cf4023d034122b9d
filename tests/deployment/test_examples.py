"""Files of docs/examples: what they say of options is true, and systemd has no objection."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import MakeModel, MakeScan

from ct3d_edge.cli.app import COMMANDS, load_command
from ct3d_edge.cli.config_file import read_config
from ct3d_edge.cli.job import parse_settings
from ct3d_edge.deployment.job_layout import find_layout

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SERVICE = EXAMPLES / "systemd" / "ct3d-edge-listen.service"
CONFIG = EXAMPLES / "systemd" / "node.toml"
PROGRAM = "/opt/ct3d-edge/bin/ct3d-edge"
MAX_EXPOSURE = 15
"""Tenths, by `systemd-analyze security`: 0 is none and 100 everything."""


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, as if ct3d-edge were installed: systemd wants the program to be there."""
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace(PROGRAM, sys.executable))
    return unit


def test_systemd_accepts_the_unit(installed: Path) -> None:
    checked = systemd_analyze("verify", "--man=no", str(installed))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_unit_has_few_rights(installed: Path) -> None:
    checked = systemd_analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", str(installed))
    assert checked.returncode == 0, checked.stdout


def test_the_unit_starts_a_command_that_takes_the_configuration() -> None:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SERVICE)
    program, command, *arguments = shlex.split(parser["Service"]["ExecStart"])
    assert program == PROGRAM
    assert command in COMMANDS
    options = {option for parameter in load_command(command).params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    assert f"/etc/ct3d-edge/{CONFIG.name}" in arguments
    assert f"config check /etc/ct3d-edge/{CONFIG.name}" in parser["Service"]["ExecStartPre"]
    config = read_config(CONFIG, {command: load_command(command)})
    assert config.default_map(command)["spool"] == Path("/var/lib") / parser["Service"]["StateDirectory"]


MAIN_WITHOUT_WRITABLE_CODE = """
import ctypes, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, NOT_SUPPORTED = 65, 1, 77
if sys.platform != "linux" or ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(NOT_SUPPORTED)
from ct3d_edge.cli.app import main
main()
"""


def test_a_scan_is_predicted_where_no_memory_is_writable_and_executable(
    make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    """As MemoryDenyWriteExecute=yes of the unit demands."""
    make_scan(folder=tmp_path / "in")
    command = ("job", "--in", tmp_path / "in", "--out", tmp_path / "out", "-m", make_model(), "-p", "cpu", "--report")
    done = subprocess.run(
        [sys.executable, "-c", MAIN_WITHOUT_WRITABLE_CODE, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("the kernel cannot deny writable and executable memory (PR_SET_MDWE)")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "result.json").read_text())["status"] == "ok"


def mercure() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EXAMPLES / "mercure" / "mercure.json").read_text())
    return content


def test_mercures_module_and_rule_hold_settings_that_exist(tmp_path: Path) -> None:
    content = mercure()
    (rule,) = content["rules"].values()
    module = content["modules"][rule["processing_module"]]
    settings = {**module["settings"], **rule["processing_settings"]}  # as mercure merges them
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "task.json").write_text(json.dumps({"id": "1", "process": {"settings": settings}}))
    layout = find_layout("mercure", tmp_path / "in", tmp_path / "out", {})
    parsed = parse_settings(load_command("job"), layout)
    assert parsed["fail_on"] == "error"
    assert parsed["notify"] == ["abnormal", "error"]
    assert parsed["target"] == ["refused=discard", "error=discard"]
    assert not module["requires_root"]


def test_every_folder_is_in_the_list() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in listed} == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
