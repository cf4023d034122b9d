"""What can run here, what cannot, and what would help; which distribution owns the module ``onnxruntime``."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ct3d_edge.doctor.smoke_test_process import ProviderStatus, check_provider
from ct3d_edge.extras import pip_install_command
from ct3d_edge.providers.names import AUTOMATIC, PROVIDERS, ProviderName
from ct3d_edge.system import machine

OWNED_FILE = "onnxruntime/__init__.py"


@dataclass(frozen=True)
class OnnxruntimeInstallation:
    """The installed builds of ONNX Runtime.

    Parameters
    ----------
    distributions
        ``(name, version)`` of each one that owns the module ``onnxruntime``.
    """

    distributions: tuple[tuple[str, str], ...]

    @property
    def problem(self) -> str | None:
        """What is wrong, in a sentence."""
        if len(self.distributions) > 1:
            packages = " and ".join(f"{name} {version}" for name, version in self.distributions)
            return f"{packages} are installed at once and overwrite each other's files; keep one."
        return None if self.distributions else "No distribution of onnxruntime is installed."

    @property
    def remedy(self) -> str | None:
        """The command that repairs the installation."""
        if len(self.distributions) > 1:
            names = [name for name, _ in self.distributions]
            package = next((name for name in names if name == "onnxruntime-gpu"), names[0])
            return f"pip uninstall --yes {' '.join(names)} && pip install {package}"
        return None if self.distributions else pip_install_command()


def inspect_onnxruntime(path: Iterable[str] | None = None) -> OnnxruntimeInstallation:
    """Look through the installed distributions, or those in the folders of ``path``."""
    found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    return OnnxruntimeInstallation(tuple(sorted({owner for entry in found if (owner := _owning_distribution(entry))})))


def _owning_distribution(entry: metadata.Distribution) -> tuple[str, str] | None:
    """Name and version of a distribution that put the module there; plugins and tools of a similar name did not."""
    try:
        name = re.sub(r"[-_.]+", "-", entry.metadata["Name"]).lower()
        if name.startswith(("onnxruntime", "ort-")) and any(
            file.as_posix() == OWNED_FILE for file in entry.files or ()
        ):
            return name, entry.version
    except (OSError, ValueError, TypeError, KeyError):  # damaged metadata; pip does not see such a one either
        return None
    return None


SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""


@dataclass(frozen=True)
class SystemReport:
    """What can run on this machine.

    Parameters
    ----------
    provider_statuses
        One of each provider, best first.
    installation
        The installed builds of ONNX Runtime.
    cpu
        The processor by its name, None if unknown.
    features
        CPU features that matter to a network; None where unknown.
    cores_present, cores_usable, quota
        Cores of the machine, cores that this process may use, and the container's limit in cores (None without).
    memory
        Bytes that can still be used, inside the container's limit; None where unknown.
    """

    provider_statuses: tuple[ProviderStatus, ...]
    installation: OnnxruntimeInstallation
    cpu: str | None
    features: dict[str, bool] | None
    cores_present: int | None
    cores_usable: int
    quota: float | None
    memory: int | None

    @property
    def working_providers(self) -> tuple[ProviderName, ...]:
        """Providers that truly run here."""
        return tuple(trial.name for trial in self.provider_statuses if trial.runs)

    @property
    def auto_providers(self) -> tuple[ProviderName, ...]:
        """What ``provider="auto"`` comes to, best first; more than one only if TensorRT, whose engine must be there."""
        able = tuple(name for name in self.working_providers if name in AUTOMATIC)
        return able[:2] if able[:1] == ("tensorrt",) else able[:1]

    def advice(self) -> Iterator[str]:
        """Sentences about what is not as it should be, apart from the providers."""
        problem = self.installation.problem
        if problem:
            yield f"{problem} Mend it with: {self.installation.remedy}"
        if self.features is not None and not self.features["AVX2"]:
            yield "The CPU has no AVX2: the cpu provider will be several times slower than figures in the README."
        if self.cores_present and self.cores_usable < self.cores_present:
            reason = "its container's quota" if self.quota else "its affinity"
            yield f"This process may use {self.cores_usable} of {self.cores_present} cores, by {reason}."

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/providers.md."""
        return {
            "schema": SCHEMA,
            "working": list(self.working_providers),
            "automatic": list(self.auto_providers),
            "providers": [trial.to_dict() for trial in self.provider_statuses],
            "onnxruntime_distributions": dict(self.installation.distributions),
            "cpu": {"name": self.cpu, "features": self.features},
            "cores": {"present": self.cores_present, "usable": self.cores_usable, "quota": self.quota},
            "memory_available": self.memory,
            "advice": list(self.advice()),
        }


def check_system(
    attempt: Callable[[ProviderName], ProviderStatus] = check_provider,
    on_provider: Callable[[str], None] = lambda _: None,
) -> SystemReport:
    """Look at everything; ``on_provider`` hears of each provider before it is tried."""
    trials = []
    for name in PROVIDERS:
        on_provider(name)
        trials.append(attempt(name))
    about = machine.describe_machine()
    return SystemReport(
        provider_statuses=tuple(trials),
        installation=inspect_onnxruntime(),
        cpu=about["cpu"],
        features=machine.detect_cpu_features(),
        cores_present=about["cores_present"],
        cores_usable=about["cores_usable"],
        quota=machine.read_cpu_quota(),
        memory=machine.read_available_memory(),
    )
