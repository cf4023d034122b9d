"""What a search finds and leaves alone, with the reason."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PassedOver:
    """Something in a folder that is DICOM and no scan to judge: a stable code and a reason in words."""

    path: Path
    code: str
    reason: str
