"""Does a node lose a series, or predict one twice, if it is killed again and again?

    python -m bench.node_crashes [SERIES [KILLS]]

Small series are sent by four storescu at a time, each until it is accepted. Meanwhile the node is killed (kill -9) at
random moments and started again, and the archive is away for a part of the time. In the end every series has one
record, and the archive one report. By default 2,000 series and 25 kills. (tests/node/test_crashes.py does the same with
fewer.)
"""

import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from bench.node_peers import Archive, NodeProcess, send, wait_for
from bench.node_series import write_small_series
from ct3d_edge.quality_control.check_registry import DOWNGRADABLE
from ct3d_edge.results.journal import read_journal

MODEL = Path(__file__).parents[1] / "models" / "phantom-cnn.onnx"
SENDERS = 4
COMPLETION = ("--complete-on-count", "--stable-for", "30")
"""A sender that is interrupted tries again within these seconds: what it sent before is no series of its own."""


@dataclass(frozen=True)
class Outcome:
    """What became of the series.

    Parameters
    ----------
    records
        How many records each series has.
    reports
        SOPInstanceUIDs of the reports of each study at the archive.
    kills
        How often the node was killed.
    seconds
        From the first series to the last report.
    """

    records: Counter[str]
    reports: dict[str, set[str]]
    kills: int
    seconds: float

    def faults(self, series: Sequence[str]) -> list[str]:
        """What is wrong, in words; nothing if every series has one record and one report."""
        reports = {uid: len(self.reports.get(f"{uid}.0", ())) for uid in series}
        return [f"{uid}: {self.records[uid]} records" for uid in series if self.records[uid] != 1] + [
            f"{uid}: {count} reports" for uid, count in reports.items() if count != 1
        ]


def send_with_crashes(
    node: NodeProcess, archive: Archive, folder: Path, series: Sequence[str], kills: int, seed: int = 0
) -> Outcome:
    """Send all series while the node is killed and the archive is away; wait for the last report."""
    start, sent = time.monotonic(), _Progress(len(series))
    with _killer(node, sent, kills, seed), _absence(archive, sent), ThreadPoolExecutor(SENDERS) as senders:
        for done in [senders.submit(_send_until_accepted, node, folder / uid, uid) for uid in series]:
            done.add_done_callback(sent.add)
    node.wait_until_listening()
    allowed_s = 120 + len(series)
    wait_for(lambda: not _pending(node.spool), "every series is predicted", allowed_s)
    wait_for(lambda: not list((node.spool / "outbox").rglob("*.dcm")), "every report is sent", allowed_s)
    seconds = time.monotonic() - start
    records = Counter(
        Path(record.scan).name.rpartition("-")[0] for record in read_journal(node.spool / "results.jsonl")
    )
    reports: dict[str, set[str]] = {}
    for path in archive.reports:
        report = dcmread(path, specific_tags=["SOPInstanceUID", "StudyInstanceUID"])
        reports.setdefault(str(report.StudyInstanceUID), set()).add(str(report.SOPInstanceUID))
    return Outcome(records, reports, kills, seconds)


class _Progress:
    """How many series were accepted."""

    def __init__(self, total: int) -> None:
        self.total, self.count, self._lock = total, 0, threading.Lock()

    def add(self, _: object) -> None:
        with self._lock:
            self.count += 1

    def wait_for_share(self, share: float) -> None:
        while self.count < share * self.total:
            time.sleep(0.005)


def _send_until_accepted(node: NodeProcess, folder: Path, uid: str) -> None:
    files = write_small_series(folder, uid)
    while send(node.port, files).returncode:
        time.sleep(0.2)
    shutil.rmtree(folder)


@contextmanager
def _killer(node: NodeProcess, sent: _Progress, kills: int, seed: int) -> Iterator[None]:
    """Kill the node at random moments and start it again."""
    chance = random.Random(seed)  # noqa: S311 - no secret

    def run() -> None:
        for number in range(kills):
            sent.wait_for_share((number + 0.5) / kills * 0.95)
            time.sleep(chance.uniform(0, 0.5))
            node.kill()
            node.restart().wait_until_listening()

    with _thread(run):
        yield


@contextmanager
def _absence(archive: Archive, sent: _Progress) -> Iterator[None]:
    """Let the archive be away for a third of the series."""

    def run() -> None:
        sent.wait_for_share(1 / 3)
        archive.stop()
        sent.wait_for_share(2 / 3)
        archive.start()

    with _thread(run):
        yield


@contextmanager
def _thread(run: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


def _pending(spool: Path) -> list[Path]:
    """Series that are arriving or not done."""
    arriving = [folder for folder in (spool / "receiving").iterdir() if any(folder.iterdir())]
    return arriving + [folder for folder in (spool / "series").iterdir() if not (folder / ".done").exists()]


def main() -> None:
    """Try it on the bundled model."""
    given = [int(word) for word in sys.argv[1:3]]
    count, kills = [*given, *(2000, 25)[len(given) :]]
    series = [f"1.2.826.0.1.{number}" for number in range(1, count + 1)]
    downgraded = [word for code in sorted(DOWNGRADABLE) for word in ("--downgrade-check", code)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = Archive(folder / "archive").start()
        options = (*COMPLETION, *downgraded, "--send-to", str(archive.peer))
        node = NodeProcess(folder / "spool", MODEL, *options).wait_until_listening()
        try:
            outcome = send_with_crashes(node, archive, folder / "sent", series, kills)
        finally:
            node.kill()
            archive.stop()
    faults = outcome.faults(series)
    print("\n".join(faults))
    print(f"{count} series, {outcome.kills} kills: {len(faults)} faults; {outcome.seconds:.0f} s")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
