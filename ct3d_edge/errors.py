"""The errors a user can meet, and the exit code each one ends a command with.

::

    Ct3dError                     a sentence for the user: what was asked, what was found, what to do next
    ├── UsageError        exit 2  the command or call cannot be understood
    │   └── NoScansError          no scan is under the paths that were given
    ├── ScanError         exit 1  one scan gives no result (carries a stable code); others go on
    │   ├── UnreadableScanError   the file cannot be read as a scan
    │   └── RefusedScanError      it can be read, but no model may be run on it
    ├── DatasetError      exit 2  a folder of scans is not something a network can be trained or evaluated on
    ├── DownloadError     exit 3  a published file cannot be fetched, or is not the file that was published
    ├── ModelError        exit 3  a model file, Keras model or network cannot be used
    │   └── ContractError         what the model expects of a volume is missing or contradictory
    ├── ProviderError     exit 3  the execution provider asked for does not do the work on this machine
    ├── WorkerError       exit 71 a process that was to do a part of the work ended early (EX_OSERR of sysexits.h)
    ├── OutputError       exit 73 a file or folder cannot be created or written here (EX_CANTCREAT of sysexits.h)
    │   └── DiskError     exit 74 the disk is full, or fails (EX_IOERR)
    ├── MissingExtraError exit 3  an optional part of ct3d-edge is not installed
    ├── CheckFailedError  exit 4  a parity check or comparison failed
    └── InconclusiveError exit 5  a comparison is inconclusive: other load ran while it was measured

Anything that is not a ``Ct3dError`` is a bug and is shown with its traceback.
"""

from functools import partial
from typing import Any, ClassVar, Self


class Ct3dError(Exception):
    """Base of every error that a user can correct; ``str(error)`` is the whole message."""

    exit_code: ClassVar[int] = 3


class UsageError(Ct3dError):
    """The command line or a call's arguments contradict themselves or name something that is not there."""

    exit_code = 2


class NoScansError(UsageError):
    """There is no scan under the given paths.

    Parameters
    ----------
    message
        A plain sentence, with the reasons for which files were skipped.
    skipped
        Whether there are files that were skipped: series of another modality, localizers, other formats.
    """

    def __init__(self, message: str, *, skipped: bool) -> None:
        super().__init__(message)
        self.skipped = skipped

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with both arguments."""
        return partial(type(self), skipped=self.skipped), self.args


class WorkerError(Ct3dError):
    """A process that was to do a part of the work was killed, or could not begin."""

    exit_code = 71


class ScanError(Ct3dError):
    """One scan gives no result.

    Parameters
    ----------
    code
        Stable, machine-readable, e.g. ``"truncated"``; the same fault always has the same code.
    message
        A plain sentence for the person who has to correct the scan.
    """

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[Self], tuple[str, str], dict[str, Any]]:
        """Pickle with both arguments; an exception passes on ``args`` alone, which holds the message."""
        return type(self), (self.code, str(self)), self.__dict__


class UnreadableScanError(ScanError):
    """The file cannot be read as a scan: missing, empty, truncated, damaged, another format."""


class RefusedScanError(ScanError):
    """The scan can be read, but is not one volume of HU in space that a model can be run on."""


class DatasetError(Ct3dError):
    """A folder of scans, or its split, cannot serve for training or for a test."""

    exit_code = 2


class DownloadError(Ct3dError):
    """A published file cannot be fetched whole, or what arrives is not what was published or recorded."""


class ModelError(Ct3dError):
    """A model file or network cannot be used."""


class ContractError(ModelError):
    """A contract is missing, of an unknown schema version, or contradicts itself or its model."""


class ProviderError(Ct3dError):
    """An execution provider is missing, cannot be loaded, or did not run what it was asked to run."""


class OutputError(Ct3dError):
    """A file or folder cannot be written: it is read-only, or belongs to somebody else."""

    exit_code = 73


class DiskError(OutputError):
    """The disk that is to hold a file is full, over its quota, or fails."""

    exit_code = 74


class MissingExtraError(Ct3dError):
    """An optional part of the package is not installed; the message names the command that installs it."""


class CheckFailedError(Ct3dError):
    """A parity check or comparison failed; nothing was written."""

    exit_code = 4


class InconclusiveError(Ct3dError):
    """A threshold is exceeded, but other load on the machine may be the reason."""

    exit_code = 5
