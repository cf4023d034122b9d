"""The way of one scan through the package, as ``tools/count_path.py`` counts it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_FRAMES, MAX_FILES = 9, 45


def test_one_scan_passes_few_frames_and_files() -> None:
    command = [sys.executable, str(ROOT / "tools" / "count_path.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, files = [line for line in done.stdout.splitlines() if line.endswith("files run through")]
    *_, frames = [line for line in done.stdout.splitlines() if line.endswith("frames from main")]
    assert 20 < int(files.split()[0]) <= MAX_FILES, done.stdout
    assert 4 < int(frames.split()[0]) <= MAX_FRAMES, done.stdout
    assert "latency" not in done.stdout
