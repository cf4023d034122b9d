"""The parts of bench/README.md that come from records, and their pictures.

    python -m bench.tables

Replaces what stands between ``<!-- from results/NAME.json -->`` and ``<!-- end -->``. A record that is not there gives
"Not measured yet."
"""

import re
from collections.abc import Callable
from pathlib import Path

from bench.comparison_table import comparison_paragraphs
from bench.machine_tables import layer_paragraphs, rate_paragraphs, sweep_paragraphs
from ct3d_edge.errors import UsageError
from ct3d_edge.latency.record import BenchRecord, read_record
from ct3d_edge.system.atomic_write import atomic_file

HERE = Path(__file__).parent
PLACEHOLDER = re.compile(r"(<!-- from results/(\w+)\.json -->\n).*?(<!-- end -->)", re.DOTALL)

RENDERERS: dict[str, Callable[[BenchRecord, Path, str], list[str]]] = {
    "contestants": comparison_paragraphs,
    "profile": layer_paragraphs,
    "configurations": sweep_paragraphs,
    "capacity_per_s": rate_paragraphs,
}
"""Condition that only one sort of record has, to what makes paragraphs of it."""


def update_tables(text: str, folder: Path) -> str:
    """Text with all its parts made anew from the records in ``folder/results``; pictures go to ``folder/pictures``."""
    return PLACEHOLDER.sub(lambda found: f"{found[1]}\n{render_record(folder, found[2])}\n\n{found[3]}", text)


def render_record(folder: Path, name: str) -> str:
    """What one record says, as Markdown.

    Raises
    ------
    UsageError
        If the record cannot be read, or is of no sort that has a table.
    """
    file = folder / "results" / f"{name}.json"
    if not file.is_file():
        return "Not measured yet."
    record = read_record(file)
    for condition, paragraphs in RENDERERS.items():
        if condition in record.conditions:
            (folder / "pictures").mkdir(exist_ok=True)
            return "\n\n".join(paragraphs(record, folder / "pictures", name))
    raise UsageError(f"{file} has none of the conditions {', '.join(RENDERERS)}: there is no table for such a record.")


def main() -> None:
    """Rewrite bench/README.md."""
    page = HERE / "README.md"
    text = update_tables(page.read_text(encoding="utf-8"), HERE)
    with atomic_file(page) as stream:
        stream.write(text.encode())
    print(page)


if __name__ == "__main__":
    main()
