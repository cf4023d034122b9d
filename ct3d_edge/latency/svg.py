"""Drawings as SVG text: distributions of durations, and bars."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 320, 50, 40
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000")
"""Okabe & Ito's palette, which the colour-blind can tell apart."""

ROW = 34


def ecdf_svg(series: Mapping[str, Sequence[float]]) -> str:
    """The share of samples not above each value, a staircase a series, from 0 to the largest sample of all."""
    largest = max((max(samples) for samples in series.values()), default=1.0) or 1.0
    parts = [_axes(largest)]
    for place, (name, samples) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<path d="{_staircase(samples, largest)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + 8}" y="{18 + 16 * place}" fill="{colour}">{escape(name)}</text>')
    return svg(HEIGHT, parts)


def bars_svg(values: Mapping[str, float]) -> str:
    """A bar a value, in the order given, each with its number."""
    largest, room = max(values.values(), default=1.0) or 1.0, WIDTH - 220
    parts = []
    for place, (name, value) in enumerate(values.items()):
        top, length = place * ROW + 6, room * value / largest
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<text x="0" y="{top + 16}">{escape(name)}</text>')
        parts.append(f'<rect x="130" y="{top}" width="{length:.1f}" height="22" fill="{colour}"/>')
        parts.append(f'<text x="{136 + length:.1f}" y="{top + 16}">{value:.1f}</text>')
    return svg(ROW * max(1, len(values)), parts)


def _staircase(samples: Sequence[float], largest: float) -> str:
    steps = [f"M{_x(0, largest):.1f} {_y(0):.1f}"]
    for place, sample in enumerate(sorted(samples), start=1):
        steps.append(f"H{_x(sample, largest):.1f}V{_y(place / len(samples)):.1f}")
    return "".join([*steps, f"H{_x(largest, largest):.1f}"])


def _x(value: float, largest: float) -> float:
    return LEFT + (WIDTH - LEFT - 10) * value / largest


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10) * share


def _axes(largest: float) -> str:
    lines = []
    for share in (0.0, 0.5, 0.9, 1.0):
        y = _y(share)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{share:.0%}</text>')
    for part in range(5):
        value = largest * part / 4
        x, y = _x(value, largest), HEIGHT - BOTTOM + 18
        lines.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{value:.4g}</text>')
    lines.append(f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">ms</text>')
    return "".join(lines)


def svg(height: int, parts: Sequence[str]) -> str:
    """A picture of the common width."""
    content = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" '
        f'font-size="13" role="img">\n{content}\n</svg>'
    )
