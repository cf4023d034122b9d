"""Reports that are yet to be sent: one folder per destination, from which a report goes when it was accepted."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ct3d_edge.node.config import Peer
from ct3d_edge.system.atomic_write import atomic_file, make_folder, sync_folder


class Outbox:
    """The reports that destinations have not accepted yet; they survive the node.

    Parameters
    ----------
    folder
        Holds a folder for each destination, named by its AE title.
    destinations
        Each gets every report.

    Raises
    ------
    UsageError, OutputError, DiskError
        If a folder cannot be made.
    """

    def __init__(self, folder: Path, destinations: Sequence[Peer]) -> None:
        self._folder, self.destinations = folder, tuple(destinations)
        for destination in destinations:
            make_folder(self._folder_of(destination))

    def add(self, report: Path) -> None:
        """Have a report sent to every destination.

        Raises
        ------
        OutputError, DiskError
            If the disk fails.
        """
        for destination in self.destinations:
            with report.open("rb") as source, atomic_file(self._folder_of(destination) / report.name) as stream:
                shutil.copyfileobj(source, stream)

    def pending(self, destination: Peer) -> list[Path]:
        """Reports that a destination has not accepted, oldest first."""
        found = [(path.stat().st_mtime_ns, path) for path in self._folder_of(destination).glob("[!.]*.dcm")]
        return [path for _, path in sorted(found)]

    def remove(self, report: Path) -> None:
        """Note that the destination has accepted a report."""
        report.unlink(missing_ok=True)
        sync_folder(report.parent)

    def former_destinations(self) -> dict[str, int]:
        """AE titles that are no destinations any more, and how many reports wait for them."""
        now = {self._folder_of(destination) for destination in self.destinations}
        counts = {
            folder.name: len(list(folder.glob("[!.]*.dcm"))) for folder in self._folder.iterdir() if folder not in now
        }
        return {title: count for title, count in counts.items() if count}

    def _folder_of(self, destination: Peer) -> Path:
        return self._folder / quote(destination.ae_title, safe=" ")
