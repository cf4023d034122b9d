"""Run a command as strict container engines do: no network, no home, a read-only root, any user, no capability."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNSHARE = shutil.which("unshare") or "/usr/bin/unshare"
ANY_UID = 54321
"""Of a user that no file knows."""

SCRIPT = """
set -e
mount -t tmpfs -o mode=755 none /mnt
mkdir /mnt/in /mnt/out /mnt/model /mnt/source /mnt/python
mount --bind "$STUDY" /mnt/in
mount --bind "$OUT" /mnt/out
mount --bind "$MODEL" /mnt/model
mount --bind "$SOURCE" /mnt/source
mount --bind "$PYTHON" /mnt/python
if [ "${PYTHON#/root/}" != "$PYTHON" ]; then  # the interpreter is where nobody else may look
    mount -t tmpfs -o mode=755 none /root
    mkdir -p "$PYTHON"
    mount --bind /mnt/python "$PYTHON"
fi
for each in /mnt/in /mnt/model /mnt/source /mnt /dev/shm /; do mount -o remount,bind,ro "$each"; done
if touch /tmp/written-by-test 2>/dev/null; then echo "the root can be written to" >&2; exit 99; fi
exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    env -i PATH=/usr/bin:/bin PYTHONPATH=/mnt/source "$@"
"""


@dataclass(frozen=True)
class Isolated:
    """What the command left behind."""

    code: int
    err: str


def missing_privilege() -> str | None:
    """Why a command cannot be isolated here; None if it can."""
    for program in ("unshare", "setpriv", "mount"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "mounts and another user take root"
    tried = subprocess.run([UNSHARE, "-n", "-m", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() or None if tried.returncode else None


def run_isolated(study: Path, out: Path, model: Path, environment: Mapping[str, str], *arguments: str) -> Isolated:
    """Run ``ct3d-edge`` with the study in ``/mnt/in``, the answers in ``/mnt/out`` and the model in ``/mnt/model``."""
    paths = {
        "STUDY": study, "OUT": out, "MODEL": model, "SOURCE": ROOT, "PYTHON": sys.base_prefix, "USER_ID": ANY_UID,
    }  # fmt: skip
    variables = [f"{name}={value}" for name, value in environment.items()]
    command = [*variables, sys.executable, "-m", "ct3d_edge", *arguments]
    done = subprocess.run(
        [UNSHARE, "-n", "-m", "/bin/sh", "-c", SCRIPT, "sh", *command],
        env={**os.environ, **{name: str(value) for name, value in paths.items()}},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return Isolated(done.returncode, done.stderr)
