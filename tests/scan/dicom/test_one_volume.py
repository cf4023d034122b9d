"""Never two volumes in one, whatever the files are called and wherever they lie."""

from itertools import permutations
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError
from ct3d_edge.scan import open_scan

from .test_bad_series import code_of
from .test_belonging import first_pass, other_pass


def shuffled(folder: Path, datasets: list[Dataset], seed: int) -> Path:
    """Write data sets under names that tell nothing of their order."""
    order = np.random.default_rng(seed).permutation(len(datasets))
    return made.write_datasets(folder, [datasets[n] for n in order])


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_a_conflict_does_not_depend_on_file_names(
    tmp_path: Path, hu: NDArray[np.int16], names: tuple[str, str, str]
) -> None:
    """The second file of a UID shows what a third one shows: it is no copy of the first all the same."""
    datasets = made.series_datasets(hu)
    stray = made.ct_dataset(hu[:, :, 5].T, 5, "1.2.3")
    stray.SOPInstanceUID = datasets[3].SOPInstanceUID
    folder = made.write_datasets(tmp_path / "series", [d for n, d in enumerate(datasets) if n not in (3, 5)])
    for name, dataset in zip(names, (datasets[3], datasets[5], stray), strict=True):
        made.save(dataset, folder / f"{name}.dcm")
    assert code_of(folder) == "conflicting_instances"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier"])
@pytest.mark.parametrize("offset", [0.00375, 0.5])
def test_two_breaths_cannot_be_allowed_into_one_volume(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float, seed: int
) -> None:
    datasets = [*first_pass(hu, **{keyword: 1}), *other_pass(hu, offset, **{keyword: 2})]
    folder = shuffled(tmp_path / "series", datasets, seed)
    with pytest.raises(ScanError, match=keyword) as caught:
        open_scan(folder, judge=False)
    assert caught.value.code == "several_volumes"


@pytest.mark.parametrize("keyword", ["PixelRepresentation", "BitsStored", "HighBit", "RescaleSlope"])
@pytest.mark.parametrize("slices", [range(1), range(4, 6), range(11, 12)], ids=["first", "middle", "last"])
def test_an_element_that_only_some_slices_lack_is_not_guessed(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, slices: range
) -> None:
    datasets = made.series_datasets(hu)
    for number in slices:
        delattr(datasets[number], keyword)
    folder = made.write_datasets(tmp_path / "series", datasets)
    with pytest.raises(ScanError, match=keyword) as caught:
        open_scan(folder)
    assert caught.value.code == "missing_element"


@pytest.mark.parametrize("odd", [0, 5, 11])
@pytest.mark.parametrize("what", ["size", "direction", "spacing"])
def test_the_slice_that_is_unlike_the_others_is_named(
    tmp_path: Path, hu: NDArray[np.int16], odd: int, what: str
) -> None:
    datasets = made.series_datasets(hu)
    if what == "size":
        made.set_pixels(datasets[odd], np.zeros((20, 22)), np.uint16)
    elif what == "direction":
        datasets[odd].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    else:
        datasets[odd].PixelSpacing = [3.0, 2.1]
    folder = made.write_datasets(tmp_path / "series", datasets)
    with pytest.raises(ScanError, match=rf"\b{odd:03}\.dcm") as caught:
        open_scan(folder)
    assert caught.value.code == "mixed_slices"
