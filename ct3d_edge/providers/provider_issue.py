"""What stands between a provider and its work."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProviderIssue:
    """Why a provider cannot work here.

    Parameters
    ----------
    reason
        A clause without a full stop.
    missing
        Names of library files or packages that are not there.
    remedy
        The one command that would help; None where no command can.
    """

    reason: str
    missing: tuple[str, ...] = ()
    remedy: str | None = None

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason
