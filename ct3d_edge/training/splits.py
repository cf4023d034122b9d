"""Which scans a run is made from: a split drawn now, or one on record."""

from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.splits.create import VALIDATION_FRACTION, create_split
from ct3d_edge.splits.split import ExcludedScan, Split, require_every_class
from ct3d_edge.splits.split_file import read_split
from ct3d_edge.splits.verify import verify_folder
from ct3d_edge.training.progress import OnProgress


def chosen_split(
    folder: Path,
    file: Path | None,
    fold: int | None,
    validation: float | None,
    seed: int,
    skip_bad: bool,
    on_progress: OnProgress,
) -> tuple[Split, tuple[ExcludedScan, ...]]:
    """Draw a split, or follow the one in a file; and scans that this found unreadable.

    For the parameters see `ct3d_edge.training.train`.

    Raises
    ------
    UsageError
        If options contradict each other, or the file has no such fold.
    DatasetError
        If ``folder`` cannot be split, or is not that of the file.
    """
    if file is None:
        if fold is not None:
            raise UsageError("A fold belongs to a split file: name one (--split).")
        share = VALIDATION_FRACTION if validation is None else validation
        # Bad scans are left out here in any case: reading the others names them all at once.
        drawn = create_split(folder, seed=seed, validation=share, skip_bad=True, on_hashed=on_progress)
        return drawn, drawn.left_out
    if validation is not None:
        raise UsageError("The validation share is that of the split file; name one or the other.")
    split = read_split(file)
    split = split if fold is None else split.for_fold(fold)
    require_every_class(split)
    return verify_folder(split, folder, ("train", "validation"), skip_bad=skip_bad, on_hashed=on_progress), ()
