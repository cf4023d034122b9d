"""The network that a student gets: named, or found for a target, or left of the teacher's own."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.contract import Contract
from ct3d_edge.distillation.candidates import Candidate, list_candidates, list_pruned_candidates
from ct3d_edge.distillation.search import Target, search
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.training.network import Network, NetworkSpec
    from ct3d_edge.training.teacher import Teacher

    Choice = tuple[Network, tuple[int, int, int]]

LOGGER = logging.getLogger("ct3d_edge.distillation")

SEARCHED = ("auto", "prune")
"""Names of networks that are chosen for a target."""

CHANNELS_LEFT = 0.25
"""Share of each block's channels that ``"prune"`` leaves where neither they nor a target are stated."""

PRUNE_TO = "prune:"
"""Before the channels that are left, one number a block: ``"prune:16-32-64-128"``."""


def choose_student(teacher: "Teacher", network: str, target: Target | None, resumed: Path | None) -> "Choice":
    """The network to train, and its input.

    Parameters
    ----------
    network, target
        As in `distill`.
    resumed
        Folder of an interrupted run, whose choice stays; None for a new one.

    Raises
    ------
    UsageError, ModelError, CheckFailedError
        As `distill`.
    """
    from ct3d_edge.training.network import find_network
    from ct3d_edge.training.pruning import PrunedNetwork, find_spec, keep_filters, scale_filters

    size = teacher.contract.shape
    if network not in SEARCHED and target is not None:
        raise UsageError(
            "A target is for `network=auto` and `network=prune`, which choose a network by it; "
            f"`network={network}` names one."
        )
    if network == "auto":
        return _choose(teacher, target or Target(), list_candidates(teacher.contract), resumed)
    if network != "prune" and not network.startswith(PRUNE_TO):
        return find_network(network, (*SEARCHED, f"{PRUNE_TO}16-32-64-128")), size
    spec = find_spec(teacher.network, size)
    if network != "prune":
        pruned = keep_filters(spec, network.removeprefix(PRUNE_TO))
    elif target is None:
        pruned = scale_filters(spec, CHANNELS_LEFT)
    else:
        pruned, _ = _choose(teacher, target, list_pruned_candidates(spec, teacher.contract), resumed)
    return PrunedNetwork(pruned, teacher.network, teacher.sha256), size


def _choose(
    teacher: "Teacher", target: Target, candidates: Sequence[Candidate], resumed: Path | None
) -> "tuple[NetworkSpec, tuple[int, int, int]]":
    earlier = None if resumed is None else _find_earlier_choice(candidates, resumed)
    if earlier is not None:
        return earlier.network, earlier.size
    found = search(teacher, target, candidates, lambda measured: LOGGER.info("%s", measured.describe()))
    LOGGER.info("chosen: %s", found.network.name)
    return found.network, found.size


def _find_earlier_choice(candidates: Sequence[Candidate], out: Path) -> Candidate | None:
    """What an interrupted run chose; None if it did not get through its first epoch."""
    from ct3d_edge.training import artifacts
    from ct3d_edge.training.checkpoint import read_checkpoint

    if not (out / artifacts.CHECKPOINT).is_file():
        return None
    name = read_checkpoint(out / artifacts.CHECKPOINT).settings["network"].partition(",")[0]
    size = Contract.from_json((out / artifacts.CONTRACT).read_text(encoding="utf-8")).shape
    for candidate in candidates:
        if (candidate.network.name, candidate.size) == (name, size):
            return candidate
    raise UsageError(f"The interrupted run in {out} trained another network: {name}. Repeat its `network`.")
