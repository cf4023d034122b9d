import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.distributed_step import require_scan_for_each, require_whole_shares


def test_a_batch_must_be_shared_equally() -> None:
    require_whole_shares(4, 2)
    require_whole_shares(3, 1)
    with pytest.raises(UsageError, match=r"A batch of 3 cannot be shared equally by 2 devices\..* multiple of 2;"):
        require_whole_shares(3, 2)


@pytest.mark.parametrize("counts", [(1, 9), (9, 1)])
def test_every_device_needs_a_scan(counts: tuple[int, int]) -> None:
    require_scan_for_each(2, 2, 2)
    found = f"{counts[0]} and {counts[1]}"
    with pytest.raises(UsageError, match=f"2 devices need 2 scans each for training and validation .*found {found}"):
        require_scan_for_each(*counts, 2)
