import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.page import draw_distributions, draw_medians, draw_roofline, record_page
from ct3d_edge.latency.record import BenchRecord

DRAW = np.random.default_rng(0)
COUNTED = {"read": tuple(DRAW.normal(50, 1, 100).tolist()), "infer": tuple(DRAW.normal(300, 2, 100).tolist())}
ROOFLINE = {"gflop_per_s": 200.0, "gb_per_s": 20.0, "points": {"deep <one>": [100.0, 150.0], "nothing": [0.0, 0.0]}}
RECORD = BenchRecord(
    "How <long>?",
    {"cpu": "A & B"},
    {"scans": ["<script>.nii"], "roofline": ROOFLINE},
    {"session": 12.5},
    Samples({}, COUNTED),
    clocks={"run $copies$ <x>": ("infer",), "file to decision": ("read", "infer")},
    resources={"energy": None, "model file, bytes": 1000.0},
)


class Elements(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def pictures(page: str) -> list[str]:
    return [base64.b64decode(text).decode() for text in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)]


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    text, parser = record_page(RECORD), Elements()
    parser.feed(text)
    assert parser.open == []
    assert parser.seen.count("img") == len(pictures(text)) == 3
    assert not {"script", "link"} & set(parser.seen)
    assert "http" not in text
    assert text == record_page(RECORD), "one record has one page"


def test_names_are_text_not_markup() -> None:
    text = record_page(RECORD)
    assert "How &lt;long&gt;?" in text
    assert "&lt;script&gt;.nii" in text
    assert "A &amp; B" in text
    for picture in pictures(text):
        ElementTree.fromstring(picture)  # noqa: S314 - drawn here
    assert "run $copies$ &lt;x&gt;" in pictures(text)[0]


def test_the_page_shows_what_has_enough_runs() -> None:
    text = record_page(RECORD)
    assert "<th>p90</th>" in text
    assert ">p99<" not in text
    assert "unknown on this system" in text
    assert "<td>1,000</td>" in text


def test_an_incomplete_record_is_a_page_that_says_so() -> None:
    bare = BenchRecord("How long?", {}, {}, {}, Samples({}, {}), clocks=RECORD.clocks, incomplete="out of memory")
    assert "Incomplete: out of memory" in record_page(bare)
    assert pictures(record_page(bare)) == []


def test_a_distribution_climbs_from_nothing_to_all() -> None:
    axes = Figure().subplots()
    draw_distributions(axes, {"a": [2.0, 1.0, 4.0]})
    across, up = np.asarray(axes.lines[0].get_data())
    assert list(across)[-3:] == [1, 2, 4]
    assert list(up) == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_bars_are_as_long_as_their_values() -> None:
    axes = Figure().subplots()
    draw_medians(axes, {"a": 1.0, "b": 4.0})
    assert [bar.get_width() for bar in axes.patches] == [1, 4]  # type: ignore[attr-defined]


def test_the_roof_bends_where_memory_and_arithmetic_meet() -> None:
    axes = Figure().subplots()
    draw_roofline(axes, ROOFLINE)
    roof, *points = axes.lines
    across, up = np.asarray(roof.get_data())
    assert (across[1], up[1]) == (10, 200)
    assert up[0] == pytest.approx(20 * across[0])
    assert up[2] == 200
    assert [point.get_label() for point in points] == ["deep <one>"], "points without operations are left out"
