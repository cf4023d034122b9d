"""What a choice was made for: another model, device or version may prefer another one."""

import platform
from dataclasses import asdict, dataclass
from typing import Any

from ct3d_edge.machine import describe_machine
from ct3d_edge.provider_names import ProviderName
from ct3d_edge.runtime import device_and_versions


@dataclass(frozen=True)
class Key:
    """Everything a choice depends on.

    Parameters
    ----------
    model_sha256
        Of the bytes of the file that was given.
    provider
        That does the work.
    processor, cores
        The CPU's name, and how many of its cores may be used.
    gpu
        Name of the GPU that does the work; None without one.
    versions
        ``(name, version)`` of ct3d-edge, ONNX Runtime, the driver and the like; those that are there.
    """

    model_sha256: str
    provider: ProviderName
    processor: str
    cores: int
    gpu: str | None
    versions: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in the file of a choice."""
        return {**asdict(self), "versions": dict(self.versions)}

    def why_not(self, here: "Key") -> str | None:
        """Why a choice made under this key does not hold under that one; None if it does."""
        asked = (
            ("for another model file", self.model_sha256[:12], here.model_sha256[:12]),
            ("for another provider", self.provider, here.provider),
            ("on another processor", self.processor, here.processor),
            ("with another number of cores", self.cores, here.cores),
            ("on another GPU", self.gpu, here.gpu),
        )
        for what, made, found in asked:
            if made != found:
                return f"made {what} ({made}; here it is {found})"
        made_with, found_with = dict(self.versions), dict(here.versions)
        for name in sorted({*made_with, *found_with}):
            if made_with.get(name) != found_with.get(name):
                return f"made with {name} {made_with.get(name)}; here it is {found_with.get(name)}"
        return None


def key_of(model_sha256: str, provider: ProviderName, device_number: int = 0) -> Key:
    """The key of a model on a provider and one of its devices, here and now."""
    machine = describe_machine()
    gpu, versions = device_and_versions(provider, device_number)
    present = tuple((name, version) for name, version in versions if version)
    processor = machine["cpu"] or platform.machine()
    return Key(model_sha256, provider, processor, machine["cores_usable"], gpu, present)
