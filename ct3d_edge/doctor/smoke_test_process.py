"""One provider tried in a process of its own, which may crash or hang."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ct3d_edge.extras import pip_install_command
from ct3d_edge.providers.names import ProviderName, install_command

SMOKE_TEST_COMMAND = (sys.executable, "-m", "ct3d_edge.doctor.smoke_test")

SMOKE_TEST_TIMEOUT_S = 180
"""Seconds. TensorRT on a small device takes a while to build even a tiny engine."""


@dataclass(frozen=True)
class ProviderStatus:
    """The result of trying a provider.

    Parameters
    ----------
    name
        The provider.
    compiled_in
        Whether this ONNX Runtime was built with it; for a plugin, whether its package is installed.
    loadable
        Whether its libraries load and there is a device.
    runs
        Whether it ran a tiny three-dimensional network, all of it, with the right output.
    detail
        Why it cannot be used, or the result of the run.
    missing, remedy
        Libraries or packages that are not there, and the one command that would help; None if none can.
    mismatches
        Libraries that are there in another version than the one that was linked.
    difference, milliseconds
        Largest difference from NumPy, and the wall time of session and run.
    versions
        Of ONNX Runtime and the libraries that came into play.
    """

    name: ProviderName
    compiled_in: bool
    loadable: bool
    runs: bool
    detail: str
    missing: tuple[str, ...] = ()
    remedy: str | None = None
    mismatches: tuple[str, ...] = ()
    difference: float | None = None
    milliseconds: float | None = None
    versions: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def from_smoke_test(cls, output: dict[str, Any]) -> Self:
        """What ``ct3d_edge.doctor.smoke_test`` printed."""
        links = output.pop("links")
        absent = [link["name"] for link in links if link["path"] is None and link["name"] not in output["missing"]]
        found = [f"links {link['name']}, found {', '.join(link['others'])}" for link in links if link["others"]]
        return cls(
            **{
                **output,
                # Libraries that another step has loaded already are not missing.
                "missing": (*output["missing"], *([] if output["loadable"] else absent)),
                "mismatches": () if output["loadable"] else tuple(found),
                "versions": tuple((output["versions"] or {}).items()),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "versions": dict(self.versions)}


def check_provider(
    name: ProviderName, probe: Sequence[str] = SMOKE_TEST_COMMAND, patience: float = SMOKE_TEST_TIMEOUT_S
) -> ProviderStatus:
    """Run ``probe NAME`` and read its output; a crash, a hang or a broken installation is a status too."""
    command = [*probe, name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return _failed_status(name, f"trying it took more than {patience:g} seconds and was stopped")
    except OSError as error:
        return _failed_status(name, f"the process that tries it could not be started ({error.strerror})")
    try:
        return ProviderStatus.from_smoke_test(json.loads(done.stdout))
    except (ValueError, TypeError, KeyError, AttributeError):  # it ended before its output
        return _failed_status(name, _describe_exit(done), remedy=_suggest_repair(name, done.stderr))


def _failed_status(name: ProviderName, detail: str, remedy: str | None = None) -> ProviderStatus:
    return ProviderStatus(name, compiled_in=False, loadable=False, runs=False, detail=detail, remedy=remedy)


def _describe_exit(done: subprocess.CompletedProcess[str]) -> str:
    """How a process without output ended."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = f": {lines[-1]}" if lines else ""
    if done.returncode < 0:
        known = {entry.value: entry.name for entry in signal.Signals}
        return f"trying it ended with the signal {known.get(-done.returncode, -done.returncode)}{last}"
    return f"trying it failed{last}"


def _suggest_repair(name: ProviderName, stderr: str) -> str | None:
    """An onnxruntime that cannot be imported is put in order by installing it again."""
    if "ImportError" in stderr or "ModuleNotFoundError" in stderr:
        return pip_install_command("", "--force-reinstall")
    return install_command(name) if name != "cpu" else None
