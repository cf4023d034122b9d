"""A roofline as SVG text: what was reached, under what arithmetic and memory allow.

After S. Williams, A. Waterman and D. Patterson, 2009, "Roofline: an insightful visual performance model for multicore
architectures", Commun. ACM 52(4):65. Both axes are logarithmic.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ct3d_edge.latency.svg import BOTTOM, COLOURS, HEIGHT, LEFT, WIDTH, svg

TOP = 20


class _Scale:
    """Decades along an axis, wide enough for all values."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(values))))
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    @property
    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def roofline_svg(roofline: Mapping[str, Any]) -> str:
    """The two ceilings and a point a name.

    Parameters
    ----------
    roofline
        ``gflop_per_s`` and ``gb_per_s``, both above 0; ``points``: name to operations a byte and GFLOP/s.
    """
    top, slope = float(roofline["gflop_per_s"]), float(roofline["gb_per_s"])
    points = {name: (float(x), float(y)) for name, (x, y) in roofline["points"].items() if x > 0 and y > 0}
    ridge = top / slope
    across = _Scale([ridge, *(x for x, _ in points.values())], LEFT, WIDTH - 10)
    up = _Scale([top, *(y for _, y in points.values())], HEIGHT - BOTTOM, TOP)
    parts = [_axes(across, up), _roof(across, up, top, slope)]
    for place, (name, (x, y)) in enumerate(points.items()):
        parts.append(_point(across(x), up(y), name, COLOURS[place % len(COLOURS)], place))
    return svg(HEIGHT, parts)


def _roof(across: _Scale, up: _Scale, top: float, slope: float) -> str:
    """Memory's slope up to the ridge, arithmetic's level behind it; cut where the picture ends."""
    left, right = across.decades[0], across.decades[-1]
    begin = max(left, up.decades[0] / slope)
    path = f"M{across(begin):.1f} {up(min(top, begin * slope)):.1f}"
    path += f"L{across(top / slope):.1f} {up(top):.1f}H{across(right):.1f}"
    return (
        f'<path d="{path}" fill="none" stroke="#000" stroke-width="2"/>'
        f'<text x="{across(right):.1f}" y="{up(top) - 6:.1f}" text-anchor="end">{top:.0f} GFLOP/s, '
        f"{slope:.1f} GB/s</text>"
    )


def _point(x: float, y: float, name: str, colour: str, place: int) -> str:
    label = f'<text x="{LEFT + 8}" y="{TOP + 16 + 16 * place}" fill="{colour}">{escape(name)}</text>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>{label}'


def _axes(across: _Scale, up: _Scale) -> str:
    lines = []
    for value in up.decades:
        y = up(value)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{value:g}</text>')
    for value in across.decades:
        x = across(value)
        lines.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    lines.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">operations a byte</text>')
    lines.append(f'<text x="{LEFT}" y="12">GFLOP/s</text>')
    return "".join(lines)
