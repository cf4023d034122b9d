import io
import os
from dataclasses import replace

import pytest
from rich.console import Console

from ct3d_edge.cli.terminal import printable
from ct3d_edge.report import confidence_sentences, model_sentences, results_table
from ct3d_edge.results import Answer, Failure, Record, Timing
from ct3d_edge.scan import Finding

LABELS = ("normal", "abnormal")

ANSWERED = Record(
    scan="folder/first.nii.gz",
    status="ok",
    answer=Answer("abnormal", (("normal", 0.12344), ("abnormal", 0.87656)), 0.5),
    failure=None,
    findings=(),
    timing=Timing(10.4, 20.0, 3.2),
    model_sha256="m",
    contract_sha256="c",
    requested="auto",
    actual="cpu",
    nodes=(("cpu", 5),),
)

FAILED = replace(
    ANSWERED,
    scan="folder/second.nii.gz",
    status="error",
    answer=None,
    failure=Failure("truncated", "It ends too early."),
    timing=Timing(read=1.0),
)


def rendered(*records: Record, labels: tuple[str, ...] = LABELS, colour: bool = False) -> str:
    """The table as a terminal of 200 columns would get it."""
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=colour, color_system="standard" if colour else None)
    console.print(results_table(records, labels, printable))
    return text.getvalue()


def row_of(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if name in line)
    return [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]


def test_an_answered_scan_has_its_row() -> None:
    assert row_of(rendered(ANSWERED), "first") == [
        "first.nii.gz",
        "ok",
        "abnormal",
        "0.1234",
        "0.8766",
        "34",
        "",
    ]


def test_a_failed_scan_has_its_reason() -> None:
    row = row_of(rendered(ANSWERED, FAILED), "second")
    assert row == ["second.nii.gz", "error", "", "", "", "1", "truncated: It ends too early."]


def test_every_class_has_its_column() -> None:
    header = row_of(rendered(ANSWERED), "remarks")
    assert header == ["scan", "status", "answer", "normal", "abnormal", "ms", "remarks"]


def test_findings_are_remarks() -> None:
    findings = (Finding("oblique", "warn", "Tilted by 12."), Finding("misnamed", "warn", "Renamed."))
    row = row_of(rendered(replace(ANSWERED, findings=findings)), "first")
    assert row[-1] == "oblique: Tilted by 12. misnamed: Renamed."


def test_what_holds_for_every_answer_of_a_model_is_said_once() -> None:
    of_model, of_scan = Finding("demonstration_model", "warn", "A toy."), Finding("oblique", "warn", "Tilted.")
    answered = replace(ANSWERED, findings=(of_model, of_scan))
    records = (answered, replace(answered, scan="folder/third.nii.gz"), FAILED)
    assert row_of(rendered(*records), "first")[-1] == "oblique: Tilted."
    assert model_sentences(records) == ["demonstration_model: A toy."]
    assert model_sentences(records[-1:] * 2) == model_sentences(records[:1]) == []
    alone = rendered(answered)
    assert row_of(alone, "first")[-1] == "demonstration_model: A toy. oblique: Tilted."
    assert alone.count("A toy.") == 1


def test_rows_keep_their_order() -> None:
    text = rendered(FAILED, ANSWERED)
    assert text.index("second") < text.index("first")


def test_files_of_the_same_name_are_shown_with_their_folders() -> None:
    text = rendered(ANSWERED, replace(ANSWERED, scan="other/first.nii.gz"))
    assert "folder/first.nii.gz" in text
    assert "other/first.nii.gz" in text


@pytest.mark.parametrize(("status", "colour"), [("ok", 32), ("warn", 33), ("refused", 35), ("error", 31)])
def test_the_status_has_its_colour_on_a_terminal(status: str, colour: int) -> None:
    record = replace(FAILED, status=status)  # type: ignore[arg-type]
    assert f"\x1b[{colour}m{status}" in rendered(record, colour=True)


def test_an_empty_table_is_only_its_header() -> None:
    assert "remarks" in rendered()


MARKUP = ["[red]scan", "[bold] [red]", "[link=x]y", "a[b]c.nii", r"\[x]", "[x]]", ":smile:"]


@pytest.mark.parametrize("text", MARKUP)
def test_what_looks_like_markup_is_shown_as_it_is(text: str) -> None:
    record = replace(
        FAILED,
        scan=text,
        failure=Failure("not_nifti", f"<{text}> is no scan."),
        findings=(Finding("f", "warn", text),),
    )
    shown = rendered(record)
    assert row_of(shown, "not_nifti")[0] == text
    assert f"<{text}> is no scan." in shown


@pytest.mark.parametrize("text", [*MARKUP, "[/red]", "[/]"])
def test_class_names_that_look_like_markup_are_shown_as_they_are(text: str) -> None:
    answer = Answer(text, (("normal", 0.25), (text, 0.75)), 0.5)
    shown = rendered(replace(ANSWERED, answer=answer), labels=("normal", text))
    assert row_of(shown, "remarks")[4] == text
    assert row_of(shown, "first")[2:5] == [text, "0.2500", "0.7500"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb", r"a\nb"),
        ("a\rb", r"a\rb"),
        ("a\x07b", r"a\x07b"),
        ("a\u202eb", r"a\u202eb"),
        (os.fsdecode(b"a\xffb"), r"a\udcffb"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    answer = Answer(text, ((text, 0.75), ("other", 0.25)), 0.5)
    found = rendered(
        replace(ANSWERED, scan=text, answer=answer),
        replace(FAILED, failure=Failure("x", text)),
        labels=(text, "other"),
    )
    assert found.count(shown) == 4  # scan, answer, column, remark
    assert text not in found


def test_sentences_are_the_tutorials() -> None:
    assert confidence_sentences(ANSWERED) == [
        "This model is 12.34 percent confident that CT scan is normal",
        "This model is 87.66 percent confident that CT scan is abnormal",
    ]


def test_without_an_answer_there_are_no_sentences() -> None:
    assert confidence_sentences(FAILED) == []


def test_what_a_scan_was_refused_for_is_said_once() -> None:
    findings = (Finding("not_hu", "refuse", "These are no HU."), Finding("oblique", "warn", "Tilted."))
    refused = replace(FAILED, status="refused", failure=Failure("not_hu", "These are no HU."), findings=findings)
    assert row_of(rendered(refused), "second")[-1] == "not_hu: These are no HU. oblique: Tilted."
