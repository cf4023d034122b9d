import itertools

import numpy as np
import pytest
from graphs import GraphMaker, answers

from ct3d_edge.conversion.passes.window import WindowAxis


@pytest.mark.parametrize("size", [5, 6, 9])
@pytest.mark.parametrize("ceil", [0, 1])
def test_windows_are_counted_as_the_runtime_does(size: int, ceil: int) -> None:
    for kernel, stride, begin, end in itertools.product((1, 2, 3), (1, 2, 3), (0, 1), (0, 1)):
        if max(begin, end) >= kernel:
            continue
        g = GraphMaker(1, size)
        pads = [begin, end]
        y = g.op("MaxPool", "x", kernel_shape=[kernel], strides=[stride], pads=pads, ceil_mode=ceil)
        (found,) = answers(g.model(y), np.zeros((1, 1, size), np.float32))
        assert WindowAxis(size, kernel, stride, begin, end, ceil=bool(ceil)).out == found.shape[2]


def test_a_cropped_axis_has_the_windows_asked_for_and_looks_at_no_more_than_it_needs() -> None:
    for size, kernel, stride, begin, end, dilation in itertools.product(
        (7, 8, 11), (1, 2, 3), (1, 2), (0, 1), (0, 1), (1, 2)
    ):
        if kernel <= begin:
            continue  # a window may lie in the padding alone
        axis = WindowAxis(size, kernel, stride, begin, end, dilation)
        for windows in range(1, axis.out + 1):
            cropped = axis.crop(windows)
            assert cropped.out == windows
            assert cropped.size <= size
            assert cropped.size == size or not cropped.end
