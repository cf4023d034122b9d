"""The workers of a run on several machines, as TensorFlow's own variable ``TF_CONFIG`` lists them."""

import json
import os
from dataclasses import dataclass

from ct3d_edge.errors import UsageError

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, and which of them this process is.

    Parameters
    ----------
    workers
        ``host:port`` of each, in the same order everywhere.
    index
        Of this process; worker 0 is the chief.
    """

    workers: tuple[str, ...]
    index: int

    @classmethod
    def from_environment(cls) -> "Cluster":
        """Parse ``TF_CONFIG``.

        Raises
        ------
        UsageError
            If it is not set, or does not list two workers or more and say which one this is.
        """
        text = os.environ.get("TF_CONFIG")
        if not text:
            raise _bad_config("it is not set")
        try:
            config = json.loads(text)
            roles, task = dict(config["cluster"]), dict(config["task"])
            cluster = cls(tuple(map(str, roles["worker"])), int(task["index"]))
        except (ValueError, KeyError, TypeError) as error:
            raise _bad_config(f"found {text}") from error
        if set(roles) != {"worker"} or task.get("type") != "worker":
            raise _bad_config(f"only tasks of the type worker are known; found {text}")
        cluster._require_sense()
        return cluster

    def _require_sense(self) -> None:
        for worker in self.workers:
            host, _, port = worker.rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
                raise _bad_config(f"{worker!r} is not host:port")
        if len(self.workers) < 2 or len(set(self.workers)) < len(self.workers):
            raise _bad_config(f"two different workers at least are needed; found {', '.join(self.workers) or 'none'}")
        if not 0 <= self.index < len(self.workers):
            raise _bad_config(f"the index is {self.index}, but there are {len(self.workers)} workers")


def _bad_config(found: str) -> UsageError:
    return UsageError(
        "--distribute multiworker needs the environment variable TF_CONFIG, with the same list of workers on each and "
        f"its own index, and {found}. For the first of two: TF_CONFIG='{EXAMPLE}'"
    )
