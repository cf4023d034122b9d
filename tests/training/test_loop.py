import math

import pytest

from ct3d_edge.errors import DatasetError
from ct3d_edge.training.loop import FiniteLoss


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_epoch_and_step_are_counted_from_one_and_the_scans_named(loss: float) -> None:
    watch = FiniteLoss(lambda epoch, step: [f"t/{epoch}-{step}"], lambda epoch, step: [f"v/{epoch}-{step}", "v/x"])
    watch.on_epoch_begin(2)
    watch.on_train_batch_end(3, {"loss": 0.5})
    with pytest.raises(DatasetError, match=r"epoch 3, step 5\..*\n  t/2-4$"):
        watch.on_train_batch_end(4, {"loss": loss})
    with pytest.raises(DatasetError, match=r"epoch 3, step 1 of the validation\..*\n  v/2-0\n  v/x$"):
        watch.on_test_batch_end(0, {"loss": loss})
