import re

from ct3d_edge.latency.page import roofline_svg

ROOFLINE = {"gflop_per_s": 200.0, "gb_per_s": 20.0, "points": {"deep <one>": [100.0, 150.0], "shallow": [1.0, 15.0]}}


def circles(picture: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', picture)]


def roof(picture: str) -> list[float]:
    (path,) = re.findall(r'<path d="(M[^"]+L[^"]+)"', picture)
    return [float(number) for number in re.findall(r"[\d.]+", path)]


def test_points_lie_where_their_numbers_are_on_logarithmic_axes() -> None:
    (deep_x, deep_y), (shallow_x, shallow_y) = circles(roofline_svg(ROOFLINE))
    assert deep_x > shallow_x
    assert deep_y < shallow_y
    one_decade = {**ROOFLINE, "points": {"a": [1.0, 10.0], "b": [10.0, 10.0], "c": [100.0, 100.0]}}
    a, b, c = circles(roofline_svg(one_decade))
    assert abs((b[0] - a[0]) - (c[0] - b[0])) < 0.2
    assert a[1] == b[1] > c[1]


def test_the_roof_bends_where_memory_and_arithmetic_meet() -> None:
    at_the_ridge = {**ROOFLINE, "points": {"ridge": [10.0, 200.0]}}
    picture = roofline_svg(at_the_ridge)
    ((x, y),) = circles(picture)
    _, _, bend_x, bend_y, end_x = roof(picture)
    assert (bend_x, bend_y) == (x, y)
    assert end_x > bend_x


def test_names_are_escaped_and_empty_points_left_out() -> None:
    picture = roofline_svg({**ROOFLINE, "points": {"<b>": [1.0, 1.0], "nothing": [0.0, 0.0]}})
    assert "&lt;b&gt;" in picture
    assert "<b>" not in picture
    assert "nothing" not in picture
