"""The scans of a distillation, prepared for student and teacher, and the teacher's labels of those without a class."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from ct3d_edge.contract import Contract
from ct3d_edge.progress import Progress
from ct3d_edge.training.data import ScanArrays, VolumeFiles, VolumeSource, prepare_scans
from ct3d_edge.training.teacher import Teacher
from ct3d_edge.training.unlabelled import insert_files, insert_labels, prepare_unlabelled


@contextmanager
def prepare_for_teacher(
    teacher: Teacher | None,
    folder: Path,
    arrays: ScanArrays,
    cache: Path,
    progress: Progress,
    *,
    keep: bool,
    skip_bad: bool,
) -> Iterator[tuple[ScanArrays, VolumeSource | None]]:
    """Add the unlabelled scans of a teacher to those of a run, and prepare all for its input if that has another size.

    Parameters are those of `ct3d_edge.training.data.prepare_scans`.

    Yields
    ------
    ScanArrays
        The scans for the student, the unlabelled ones with the teacher's predictions as labels.
    VolumeSource or None
        The same scans for the teacher; None if they are the same volumes.
    """
    if teacher is None:
        yield arrays, None
        return
    own = teacher.student_contract
    large = replace(own, shape=teacher.contract.shape)
    with ExitStack() as stack:
        prepare = partial(
            _prepare_inputs,
            teacher,
            folder,
            arrays,
            stack,
            cache=cache,
            progress=progress,
            keep=keep,
            skip_bad=skip_bad,
        )
        names, volumes = prepare(own)
        others = None if large == own else prepare(large)[1]
        count = len(arrays.split.train)
        source = volumes if others is None else others
        labels = teacher.predict_labels([source[row] for row in range(count, count + len(names))])
        yield replace(insert_labels(arrays, names, labels), volumes=volumes), others


def _prepare_inputs(
    teacher: Teacher,
    folder: Path,
    arrays: ScanArrays,
    stack: ExitStack,
    contract: Contract,
    *,
    cache: Path,
    progress: Progress,
    keep: bool,
    skip_bad: bool,
) -> tuple[tuple[str, ...], VolumeFiles]:
    """The scans of a run under a contract, with the unlabelled ones, whose names come first."""
    if contract == teacher.student_contract:
        volumes = cast(VolumeFiles, arrays.volumes)
    else:
        opened = stack.enter_context(prepare_scans(folder, arrays.split, contract, cache, progress, keep=keep))
        volumes = cast(VolumeFiles, opened.volumes)
    if teacher.unlabelled is None:
        return (), volumes
    files = stack.enter_context(
        prepare_unlabelled(teacher.unlabelled, contract, cache, progress, keep=keep, skip_bad=skip_bad)
    )
    return tuple(files), insert_files(volumes, tuple(files.values()), len(arrays.split.train))
