"""The results of a run as one HTML page that needs nothing else: no network, no script from elsewhere.

Pictures of a scan are inert text in the page until somebody opens the scan. They are written to the disk as scans
come in, so that memory does not grow with their number.
"""

import base64
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.report.deidentify import deidentify_flags, deidentify_text
from ct3d_edge.report.page_body import format_body
from ct3d_edge.report.slice_images import make_sprite
from ct3d_edge.report.table import format_confidences
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.system.atomic_write import atomic_file, require_writable


class ReportPage:
    """Collects scans and writes the page at the end.

    Parameters
    ----------
    path
        HTML file to write.
    contract
        Of the model.

    Raises
    ------
    UsageError
        If it could not be written later, or its name does not end in .html.
    """

    def __init__(self, path: Path, contract: Contract) -> None:
        if path.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"The report is a web page; its name must end in .html, found {path}.")
        require_writable(path)
        self.path, self._contract = path, contract
        # Without a buffer: what could not be written is cut off again, and nothing of it is tried once more later.
        # Beside the page: a container may have no other folder that it can write to.
        self._spool_file = tempfile.TemporaryFile(buffering=0, dir=path.resolve().parent)  # noqa: SIM115  # closed in save
        self._count = 0

    def add(
        self,
        record: ResultRecord,
        volume: NDArray[np.float32] | None = None,
        overlay: NDArray[np.float32] | None = None,
        label: str = "",
    ) -> None:
        """Add a scan, in the order of the records given to ``save``.

        Parameters
        ----------
        record
            Its record.
        volume
            Its network input ``contract.shape`` float32 in [0, 1], if there is one.
        overlay, label
            The Grad-CAM map on the same grid, and its class.

        Raises
        ------
        UsageError
            If the pictures cannot be stored. The scan then has its row without pictures.
        """
        number, self._count = self._count, self._count + 1
        data = {
            "sentences": [deidentify_text(text, record) for text in _sentences(record)],
            "sprite": None if volume is None else make_sprite(volume, self._contract.hu_window, overlay, label),
        }
        self._spool(_json_script(f"scan-{number}", data))

    def _spool(self, data: bytes) -> None:
        """Keep bytes for the page, all of them or none."""
        begin, written = self._spool_file.tell(), 0
        try:
            while written < len(data):
                written += self._spool_file.write(data[written:])
        except OSError as error:
            self._spool_file.seek(begin)
            self._spool_file.truncate()
            raise UsageError(
                f"The report cannot keep pictures in the folder of {self.path}: {error.strerror or error}. Free space "
                "there, write it elsewhere, or leave out `report=`."
            ) from error

    def save(self, records: Sequence[ResultRecord], run_report: Mapping[str, object]) -> None:
        """Write the page.

        Raises
        ------
        UsageError
            If it cannot be written.
        """
        script, style = _read_asset("page.js"), _read_asset("page.css")
        with self._spool_file, atomic_file(self.path) as stream:
            stream.write(_format_head(script, style).encode())
            stream.write(
                format_body(records[: self._count], self._contract, run_report).encode("utf-8", "backslashreplace")
            )
            # Not stored with the pictures: which outputs of a scan could not be written is known later.
            stream.writelines(
                _json_script(f"flags-scan-{number}", deidentify_flags(record))
                for number, record in enumerate(records[: self._count])
            )
            self._spool_file.seek(0)
            shutil.copyfileobj(self._spool_file, stream)
            stream.write(f"<script>{script}</script>\n</body></html>\n".encode())


def _sentences(record: ResultRecord) -> list[str]:
    failure = record.failure
    return [f"{failure.code}: {failure.message}"] if failure else format_confidences(record)


def _json_script(name: str, data: object) -> bytes:
    """JSON in a page: text until the page's own script reads it."""
    # Inside a script element "<" could end it; inside JSON it may be written so that it cannot.
    text = json.dumps(data).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'.encode()


def _read_asset(name: str) -> str:
    return (files("ct3d_edge.report") / "assets" / name).read_text(encoding="utf-8")


def _format_head(script: str, style: str) -> str:
    """With a policy that lets nothing run or load but what is in the page, and no other script than this one."""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_digest(script)}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>CT scans: results</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{style}</style></head>\n'
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
