import io
import os
import re
from dataclasses import replace

import pytest
from rich.console import Console

from ct3d_edge.formatting import printable
from ct3d_edge.report.table import format_confidences, group_messages, make_results_table
from ct3d_edge.results.record import Prediction, ResultRecord, ScanFailure, Timing
from ct3d_edge.scan.qc_flag import QCFlag

LABELS = ("normal", "abnormal")

ANSWERED = ResultRecord(
    scan="folder/first.nii.gz",
    status="ok",
    prediction=Prediction("abnormal", (("normal", 0.12344), ("abnormal", 0.87656)), 0.5),
    failure=None,
    flags=(),
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
    prediction=None,
    failure=ScanFailure("truncated", "It ends too early."),
    timing=Timing(read=1.0),
)


def rendered(*records: ResultRecord, labels: tuple[str, ...] = LABELS, colour: bool = False, width: int = 80) -> str:
    """The table and its notes as a terminal would get them."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(make_results_table(records, labels, printable, width))
    return text.getvalue()


def row_of(text: str, name: str) -> list[str]:
    """Cells of the row with a name."""
    line = next(line for line in text.splitlines() if name in line)
    return re.split(r" {2,}", line.strip())


def test_an_answered_scan_has_its_row() -> None:
    assert row_of(rendered(ANSWERED), "first") == ["first.nii.gz", "ok", "abnormal", "0.8766", "34"]


def test_a_failed_scan_has_its_reason_in_a_note() -> None:
    text = rendered(ANSWERED, FAILED)
    assert row_of(text, "second") == ["second.nii.gz", "error", "1", "1"]
    assert "[1] truncated: It ends too early.\n    1 scan: second.nii.gz\n" in text
    assert "truncated: It ends too early.\n" in rendered(FAILED)
    assert "1 scan" not in rendered(FAILED)


def test_of_two_classes_the_second_has_a_column() -> None:
    assert row_of(rendered(ANSWERED), "status") == ["scan", "status", "prediction", "abnormal", "ms"]


@pytest.mark.parametrize(("classes", "titles"), [(3, ["class0", "class1", "class2"]), (5, ["probability"])])
def test_of_more_classes_few_have_a_column_each(classes: int, titles: list[str]) -> None:
    labels = tuple(f"class{number}" for number in range(classes))
    answer = Prediction("class1", tuple((label, 0.5 if label == "class1" else 0.0) for label in labels), None)
    text = rendered(replace(ANSWERED, prediction=answer), labels=labels)
    assert row_of(text, "status") == ["scan", "status", "prediction", *titles, "ms"]
    assert "0.5000" in row_of(text, "first")


def test_flags_are_notes_and_rows_refer_to_them() -> None:
    flags = (QCFlag("oblique", "warn", "Tilted by 12."), QCFlag("extension_mismatch", "warn", "Renamed."))
    text = rendered(replace(ANSWERED, flags=flags), FAILED)
    assert row_of(text, "first")[-1] == "1 2"
    assert "[1] oblique: Tilted by 12.\n" in text
    assert "[2] extension_mismatch: Renamed.\n" in text


def test_what_holds_for_every_answer_of_a_model_comes_last_and_no_row_refers_to_it() -> None:
    of_model, of_scan = QCFlag("demonstration_model", "warn", "A toy."), QCFlag("oblique", "warn", "Tilted.")
    has_prediction = replace(ANSWERED, flags=(of_model, of_scan))
    text = rendered(has_prediction, replace(has_prediction, scan="folder/third.nii.gz"), FAILED)
    assert row_of(text, "first")[-1] == "1"
    assert text.splitlines()[-1] == "demonstration_model: A toy."
    assert rendered(has_prediction).count("A toy.") == 1


def test_a_sentence_that_differs_in_numbers_and_names_is_written_once() -> None:
    records = [
        replace(
            FAILED,
            scan=f"in/{number}.nii",
            failure=ScanFailure("truncated", f"{number}.nii ends {number}.5 bytes too early, of {10} in all."),
        )
        for number in range(19)
    ]
    text = rendered(*records)
    assert "[1] truncated: The file ends 0.5 to 18.5 bytes too early, of 10 in all.\n    all 19 scans\n" in text
    assert text.count("truncated") == 1
    assert "19 scans: 0.nii, 1.nii, 2.nii and 16 more" in rendered(*records, ANSWERED)


def test_numbers_of_names_are_no_measurements() -> None:
    said = [[("duplicate", f"Same as in/other_{number}.nii, 1.2.{number}.4.")] for number in range(2)]
    assert len(group_messages(said, ["a", "b"])) == 2


@pytest.mark.parametrize("width", [60, 80, 132])
def test_everything_fits_the_terminal(width: int) -> None:
    flag = QCFlag("out_of_distribution", "warn", "What the network sees lies far from what taught it. " * 4)
    records = [
        replace(ANSWERED, scan=f"folder/{'a' * 80}{number}{'b' * 80}{number}.nii.gz", flags=(flag,))
        for number in range(5)
    ]
    text = rendered(*records, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("...") >= len(records), "names are shortened in the middle"


def test_names_that_shortening_would_confuse_stay_whole() -> None:
    names = [f"{'a' * 40}{number}{'b' * 40}.nii.gz" for number in range(2)]
    text = rendered(*(replace(ANSWERED, scan=name) for name in names), width=60)
    assert "..." not in text


@pytest.mark.parametrize(
    ("threshold", "line"), [(0.302395, "threshold: abnormal at 0.30 or above"), (0.5, None), (None, None)]
)
def test_a_threshold_that_is_not_one_half_is_shown_once(threshold: float | None, line: str | None) -> None:
    answer = Prediction("abnormal", ANSWERED.prediction.probability, threshold)  # type: ignore[union-attr]
    text = rendered(*[replace(ANSWERED, prediction=answer)] * 3)
    assert text.count("threshold") == (line is not None)
    assert line is None or line in text.splitlines()


def test_rows_keep_their_order() -> None:
    text = rendered(FAILED, ANSWERED)
    assert text.index("second") < text.index("first")


def test_files_of_the_same_name_are_shown_with_their_folders() -> None:
    text = rendered(ANSWERED, replace(ANSWERED, scan="other/first.nii.gz"))
    assert "folder/first.nii.gz" in text
    assert "other/first.nii.gz" in text
    below = rendered(*(replace(ANSWERED, scan=f"/far/away/{name}/first.nii.gz") for name in "ab"))
    assert row_of(below, "a/first")[0] == "a/first.nii.gz"


@pytest.mark.parametrize(("status", "colour"), [("ok", 32), ("warn", 33), ("refused", 35), ("error", 31)])
def test_the_status_has_its_colour_on_a_terminal(status: str, colour: int) -> None:
    record = replace(FAILED, status=status)  # type: ignore[arg-type]
    assert f"\x1b[{colour}m{status}" in rendered(record, colour=True)


def test_an_empty_table_is_only_its_header() -> None:
    assert row_of(rendered(), "status") == ["scan", "status", "prediction", "abnormal", "ms"]


MARKUP = ["[red]scan", "[bold] [red]", "[link=x]y", "a[b]c.nii", r"\[x]", "[x]]", ":smile:"]


@pytest.mark.parametrize("text", MARKUP)
def test_what_looks_like_markup_is_shown_as_it_is(text: str) -> None:
    record = replace(
        FAILED,
        scan=text,
        failure=ScanFailure("not_nifti", f"<{text}> is no scan."),
        flags=(QCFlag("f", "warn", text),),
    )
    shown = rendered(record)
    assert row_of(shown, "error")[0] == text
    assert f"not_nifti: <{text}> is no scan." in shown
    assert f"f: {text}" in shown


@pytest.mark.parametrize("text", [*MARKUP, "[/red]", "[/]"])
def test_class_names_that_look_like_markup_are_shown_as_they_are(text: str) -> None:
    answer = Prediction(text, (("normal", 0.25), (text, 0.75)), 0.5)
    shown = rendered(replace(ANSWERED, prediction=answer), labels=("normal", text))
    assert row_of(shown, "status")[3] == text
    assert row_of(shown, "first")[2:4] == [text, "0.7500"]


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
    answer = Prediction(text, (("other", 0.25), (text, 0.75)), 0.5)
    found = rendered(
        replace(ANSWERED, scan=text, prediction=answer),
        replace(FAILED, failure=ScanFailure("x", text)),
        labels=("other", text),
    )
    assert found.count(shown) == 4  # scan, answer, column, note
    assert text not in found


def test_sentences_are_the_tutorials() -> None:
    assert format_confidences(ANSWERED) == [
        "This model is 12.34 percent confident that CT scan is normal",
        "This model is 87.66 percent confident that CT scan is abnormal",
    ]


def test_no_confidence_stands_without_the_doubt_about_an_unlike_scan() -> None:
    unlike = replace(ANSWERED, flags=(QCFlag("out_of_distribution", "warn", "Far away."),))
    sentences = format_confidences(unlike)
    assert len(sentences) == 2
    assert all(sentence.endswith("(unreliable: the scan is unlike the training scans)") for sentence in sentences)


def test_without_an_answer_there_are_no_sentences() -> None:
    assert format_confidences(FAILED) == []


def test_what_a_scan_was_refused_for_is_said_once() -> None:
    flags = (QCFlag("intensity_not_hu", "refuse", "These are no HU."), QCFlag("oblique", "warn", "Tilted."))
    refused = replace(
        FAILED, status="refused", failure=ScanFailure("intensity_not_hu", "These are no HU."), flags=flags
    )
    text = rendered(refused, ANSWERED)
    assert text.count("These are no HU.") == 1
    assert row_of(text, "second")[-1] == "1 2"
