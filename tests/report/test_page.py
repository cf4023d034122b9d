"""The report in a real browser, and what must not be in it."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import ANSWERED, FAILED

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.report.page import ReportPage
from ct3d_edge.results.record import Prediction, ResultRecord, ScanFailure
from ct3d_edge.scan.qc_flag import QCFlag

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
CONTRACT = Contract()
EVIL = "/secret/place/<img src=x onerror=alert(1)></script><b>x.nii"


def has_prediction(name: str, probability: float) -> ResultRecord:
    answer = Prediction("abnormal", (("normal", 1 - probability), ("abnormal", probability)), 0.5)
    return replace(ANSWERED, scan=name, prediction=answer)


def write(path: Path, records: list[ResultRecord], *, shape: tuple[int, int, int] = (128, 128, 64)) -> Path:
    page = ReportPage(path, CONTRACT)
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, shape[2], dtype=np.float32)
    # As rough as a scan is: flat slices would be small whatever is done.
    volume = 0.6 * ramp + 0.4 * rng.random(shape, np.float32)
    for record in records:
        overlay = np.broadcast_to(ramp, shape).astype(np.float32)
        page.add(record, *((volume, overlay, "abnormal") if record.prediction else ()))
    page.save(records, {"requested": "cpu", "nodes": {"cpu": 3}})
    return path


RECORDS = [
    has_prediction("/secret/place/b.nii", 0.9),
    has_prediction("/secret/place/a.nii", 0.125),
    replace(
        FAILED, scan="/secret/place/c.nii", failure=ScanFailure("truncated", "/secret/place/c.nii ends too early.")
    ),
    has_prediction(EVIL, 0.5),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not (CHROMIUM and DRIVER and find_spec("selenium")):
        pytest.skip("needs chromium, chromedriver and selenium")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def column(browser: Any, number: int) -> list[str]:
    cells = browser.find_elements("css selector", f"#scans tbody tr[data-status] td:nth-child({number})")
    return [cell.text for cell in cells if cell.is_displayed()]


@pytest.mark.slow
def test_the_page_sorts_filters_slides_and_complains_of_nothing(browser: Any, tmp_path: Path) -> None:
    browser.get(write(tmp_path / "report.html", RECORDS).as_uri())
    assert browser.find_element("css selector", "h1").text == "CT scans: results"
    heads = browser.find_elements("css selector", "#scans th button")
    heads[4].click()
    assert column(browser, 5) == ["0.1250", "0.5000", "0.9000", ""]
    heads[4].send_keys("\n")
    assert column(browser, 5) == ["0.9000", "0.5000", "0.1250", ""]
    assert browser.find_elements("css selector", "#scans th")[4].get_attribute("aria-sort") == "descending"
    browser.find_element("id", "text").send_keys("a.nii")
    assert column(browser, 1) == ["a.nii"]
    assert browser.find_element("id", "count").text == "1 of 4 scans shown"
    button = browser.find_element("css selector", "#scans tbody tr:not([hidden]) button")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    view = browser.find_element("css selector", ".slice div")
    slider = browser.find_element("css selector", "input[type=range]")
    before, said = view.value_of_css_property("background-position"), slider.get_attribute("aria-valuetext")
    slider.send_keys("\ue014")  # the right arrow
    assert view.value_of_css_property("background-position") != before
    assert (said, slider.get_attribute("aria-valuetext")) == ("slice 9 of 16", "slice 10 of 16")
    assert "12.50 percent confident that CT scan is abnormal" in browser.find_element("css selector", "tr.scan").text
    assert browser.get_log("browser") == []


LONG = replace(
    has_prediction("/secret/place/covid_ricord1a-001012_o0_with_a_long_name.nii.gz", 0.9),
    flags=(
        QCFlag("out_of_distribution", "warn", "What the network sees lies far from the scans that taught it. " * 3),
        QCFlag("oblique", "warn", "The scan is tilted by 12.0 degrees; its axes were taken as LAS."),
        QCFlag("spacing", "warn", "Voxels of 1.41 x 1.41 x 15 mm, which no chest CT has."),
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_cut_off_or_broken_inside_a_word(browser: Any, tmp_path: Path, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(write(tmp_path / "report.html", [LONG, *RECORDS[:3]]).as_uri())
    for button in browser.find_elements("css selector", "#scans tbody button"):
        browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    beyond = """
        const boxes = Array.from(document.querySelectorAll("main *"), node => [node, node.getBoundingClientRect()]);
        const beyond = ([, box]) => box.width && box.right > innerWidth + 1;
        return boxes.filter(beyond).map(([node]) => node.outerHTML.slice(0, 80));
    """
    assert browser.execute_script(beyond) == []
    lines = """
        const range = document.createRange();
        return Array.from(document.querySelectorAll("td.whole")).filter(cell => cell.textContent).map(cell => {
            range.selectNodeContents(cell);
            return new Set(Array.from(range.getClientRects(), box => box.top)).size;
        });
    """
    assert set(browser.execute_script(lines)) == {1}
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_the_threshold_is_a_line_that_can_be_seen(browser: Any, tmp_path: Path) -> None:
    browser.get(write(tmp_path / "report.html", RECORDS).as_uri())
    line = browser.find_element("css selector", "svg .threshold")
    paper = browser.find_element("css selector", "body").value_of_css_property("background-color")
    stroke, paper = (
        [int(part) for part in re.findall(r"\d+", c)[:3]] for c in (line.value_of_css_property("stroke"), paper)
    )
    assert min(abs(one - other) for one, other in zip(stroke, paper, strict=True)) > 150
    assert float(line.value_of_css_property("stroke-width").removesuffix("px")) >= 2
    assert "threshold 0.50" in browser.find_element("css selector", "svg").get_attribute("textContent")


def test_every_code_in_the_table_leads_to_its_sentence(tmp_path: Path) -> None:
    text = write(tmp_path / "report.html", [LONG, *RECORDS]).read_text()
    links = dict(re.findall(r'<a href="#(note-\d+)" title="[^"]{8,}">([a-z_]+)</a>', text))
    sentences = dict(re.findall(r'<dt id="(note-\d+)">([a-z_]+)</dt><dd>[^<]{8,}<br>', text))
    assert links == sentences
    assert {"out_of_distribution", "oblique", "spacing", "truncated"} <= set(links.values())
    (remarks,) = re.findall(r'<dl id="notes">(.*)</dl>', text)
    assert remarks.count("ends too early") == 1


@pytest.mark.slow
def test_markup_in_a_name_is_text(browser: Any, tmp_path: Path) -> None:
    browser.get(write(tmp_path / "report.html", RECORDS).as_uri())
    for button in browser.find_elements("css selector", "#scans tbody button"):
        button.click()
    assert "b>x.nii" in "".join(column(browser, 1))
    assert not browser.find_elements("css selector", "img, main b")
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_two_hundred_scans_stay_small_and_open(browser: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "report.html", [has_prediction(f"{n}.nii", n / 200) for n in range(200)])
    assert path.stat().st_size < 40e6
    browser.get(path.as_uri())
    assert browser.find_element("id", "count").text == "200 of 200 scans shown"
    assert not browser.find_elements("css selector", ".slice"), "no picture is decoded before it is asked for"


def test_no_path_no_patient_no_address(tmp_path: Path) -> None:
    patient = QCFlag("identifiers", "ok", "Patient Doe^Jane, ID 4711.")
    same = QCFlag("duplicate", "warn", "The network input is identical to that of /secret/x.nii.", "/secret/x.nii")
    records = [replace(RECORDS[0], flags=(patient, same)), *RECORDS[1:]]
    text = write(tmp_path / "report.html", records, shape=(16, 12, 8)).read_text()
    for word in ("/secret", "Doe", "4711", "http://", "https://"):
        assert word not in text
    assert "c.nii ends too early" in text


def test_what_is_known_only_at_the_end_is_in_the_details_too(tmp_path: Path) -> None:
    page = ReportPage(tmp_path / "report.html", CONTRACT)
    page.add(RECORDS[0])
    side = QCFlag(
        "auxiliary_output_failed",
        "warn",
        "--gradcam-dir has no output of this scan: Cannot write /secret/b.png.",
        "--gradcam-dir",
    )
    page.save([replace(RECORDS[0], flags=(side,))], {"requested": "cpu"})
    text = (tmp_path / "report.html").read_text()
    (found,) = re.findall(r'id="flags-scan-0">(.*)</script>', text)
    assert json.loads(found) == [
        "auxiliary_output_failed: --gradcam-dir has no output for this scan; the record gives the reason."
    ]
    assert "/secret" not in text


def test_without_an_answer_there_is_a_page_too(tmp_path: Path) -> None:
    text = write(tmp_path / "report.html", [FAILED]).read_text()
    assert "No scan has a prediction." in text


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.html"):
        ReportPage(tmp_path / "report.pdf", CONTRACT)


def write_with_a_gap(path: Path) -> Path:
    """A page of three scans, for the second of which there was no room."""
    import resource

    page = ReportPage(path, CONTRACT)
    volume = np.random.default_rng(0).random((128, 128, 64), np.float32)
    page.add(RECORDS[0], volume)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (page._spool_file.tell() + 1000, hard))  # a disk that is full now
    try:
        with pytest.raises(UsageError, match=r"in the folder of .*report\.html: .*Free space there"):
            page.add(RECORDS[1], volume)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    page.add(RECORDS[2])
    page.save(RECORDS[:3], {"requested": "cpu"})
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX systems")
def test_pictures_for_which_there_is_no_room_cost_only_themselves(tmp_path: Path) -> None:
    text = write_with_a_gap(tmp_path / "report.html").read_text()
    assert re.findall(r'id="(scan-\d)">\{', text) == ["scan-0", "scan-2"]
    assert [name in text for name in ("b.nii</button>", "a.nii</button>", "c.nii</button>")] == [True] * 3
    assert all(json.loads(data) for data in re.findall(r'type="application/json" id="scan-\d">(.*)</script>', text))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX systems")
def test_a_scan_whose_pictures_are_missing_opens_too(browser: Any, tmp_path: Path) -> None:
    browser.get(write_with_a_gap(tmp_path / "report.html").as_uri())
    browser.find_elements("css selector", "#scans tbody button")[1].click()
    assert browser.find_element("css selector", "tr.scan").text.splitlines() == [
        "Nothing more was kept of this scan.",
        "Findings",
        "oblique: Tilted.",
        "extension_mismatch: Renamed.",
    ]
    assert browser.get_log("browser") == []
