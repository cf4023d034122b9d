"""How the probabilities of a run are distributed, as an SVG picture."""

from collections.abc import Sequence
from html import escape

from ct3d_edge.formatting import plural

BINS = 20
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 190, 30, 40, 28


def distribution_svg(values: Sequence[float], label: str, threshold: float | None) -> str:
    """A histogram of probabilities of one class, with the threshold; what it shows stands in its label, too."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(value * BINS))] += 1
    highest, step = max(counts) or 1, (WIDTH - LEFT) / BINS
    parts = []
    for place, number in enumerate(counts):
        height = (HEIGHT - BOTTOM - TOP) * number / highest
        x, y = LEFT + place * step, HEIGHT - BOTTOM - height
        parts.append(f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}"/>')
        if number:
            parts.append(f'<text x="{x + step / 2:.1f}" y="{y - 3:.1f}" text-anchor="middle">{number}</text>')
    for part in range(6):
        x = LEFT + (WIDTH - LEFT) * part / 5
        anchor = "end" if part == 5 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{part / 5:.1f}</text>')
    if threshold is not None:
        x = LEFT + (WIDTH - LEFT) * threshold
        parts.append(f'<path class="threshold" d="M{x:.1f} 6V{HEIGHT - BOTTOM}"/>')
        anchor = "start" if threshold < 0.5 else "end"  # half of the picture
        aside = 4 if threshold < 0.5 else -4
        parts.append(f'<text x="{x + aside:.1f}" y="18" text-anchor="{anchor}">threshold {threshold:.2f}</text>')
    said = f"Probability of {label} in {plural(len(values), 'scan')}"
    said += "" if threshold is None else f"; line: {label} from {threshold:.3g} on"
    told = "; ".join(f"{n / BINS:.2f} to {(n + 1) / BINS:.2f}: {number}" for n, number in enumerate(counts) if number)
    content = "".join(parts)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{said}. {told}")}">{content}</svg>'
    return f"<figure>{svg}<figcaption>{escape(said)}</figcaption></figure>"
