"""Is there a card of NVIDIA's in this machine, whether or not its driver works?"""

import sys
from pathlib import Path

VENDOR = "0x10de"
"""NVIDIA's number among the vendors of PCI devices."""

DISPLAY, PROCESSING = "0x03", "0x12"
"""How the class of a display controller begins, and that of an accelerator, in sysfs."""

DEVICES = ("nvidia[0-9]*", "nvhost-*", "dxg")
"""In /dev: cards with a driver, a Jetson's, and the GPU of a Windows host under WSL."""


def nvidia_card_seen(root: Path = Path("/")) -> bool:
    """Whether one is seen on Linux, by its driver, as a PCI device or as a Jetson; True elsewhere.

    Parameters
    ----------
    root
        Where ``/proc``, ``/sys`` and ``/dev`` are.
    """
    if not sys.platform.startswith("linux"):
        return True
    if (root / "proc/driver/nvidia").exists():
        return True
    if any(next((root / "dev").glob(pattern), None) for pattern in DEVICES):
        return True
    return any(_is_card(device) for device in (root / "sys/bus/pci/devices").glob("*"))


def _is_card(device: Path) -> bool:
    return _text(device / "vendor") == VENDOR and _text(device / "class").startswith((DISPLAY, PROCESSING))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
