import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.page import bars_svg, ecdf_svg, record_page
from ct3d_edge.latency.record import BenchRecord

DRAW = np.random.default_rng(0)
COUNTED = {"read": tuple(DRAW.normal(50, 1, 100).tolist()), "infer": tuple(DRAW.normal(300, 2, 100).tolist())}
RECORD = BenchRecord(
    "How <long>?",
    {"cpu": "A & B"},
    {"scans": ["<script>.nii"]},
    {"session": 12.5},
    Samples({}, COUNTED),
    clocks={"run + copies": ("infer",), "file to decision": ("read", "infer")},
    resources={"energy": None, "model file, bytes": 1000.0},
)


class Balance(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    text, parser = record_page(RECORD), Balance()
    parser.feed(text)
    assert parser.open == []
    assert parser.seen.count("svg") == 2
    assert not {"script", "link", "img"} & set(parser.seen)
    assert "http" not in text


def test_names_are_text_not_markup() -> None:
    text = record_page(RECORD)
    assert "How &lt;long&gt;?" in text
    assert "&lt;script&gt;.nii" in text
    assert "A &amp; B" in text


def test_the_page_shows_what_has_enough_runs() -> None:
    text = record_page(RECORD)
    assert ">p90<" in text
    assert ">p99<" not in text
    assert "this system does not tell" in text


def test_an_incomplete_record_is_a_page_that_says_so() -> None:
    bare = BenchRecord("How long?", {}, {}, {}, Samples({}, {}), clocks=RECORD.clocks, incomplete="out of memory")
    assert "Incomplete: out of memory" in record_page(bare)


def test_a_distribution_climbs_from_nothing_to_all() -> None:
    svg = ecdf_svg({"a": [2.0, 1.0, 4.0]})
    (path,) = [element.get("d", "") for element in ElementTree.fromstring(svg) if element.get("fill") == "none"]  # noqa: S314
    places = [tuple(map(float, step)) for step in re.findall(r"H([\d.]+)V([\d.]+)", path)]
    assert [x for x, _ in places] == pytest.approx([50 + 700 * share for share in (0.25, 0.5, 1)])
    assert [y for _, y in places] == pytest.approx([280 - 270 * n / 3 for n in (1, 2, 3)])


def test_bars_are_as_long_as_their_values() -> None:
    svg = ElementTree.fromstring(bars_svg({"a": 1.0, "b": 4.0}))  # noqa: S314
    lengths = [float(element.get("width", "")) for element in svg if element.tag == "rect"]
    assert lengths[1] == 4 * lengths[0]
