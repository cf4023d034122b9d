"""Arguments of the library in messages as options of the command line, and the former names of options.

The library names what to change as an argument of its own, in backquotes: ```allow_fallback=True```.
"""

import re

OPTION_OF_ARGUMENT = {
    "activation": "--activation",
    "allow": "--downgrade-check",
    "allow_fallback": "--allow-fallback",
    "atol": "--atol",
    "batch_size": "--batch-size",
    "calibration_data": "--calibration-data",
    "contract": "--contract",
    "device_id": "--device-id",
    "distribute": "--strategy",
    "embed_preprocessing": "--embed-preprocessing",
    "gradcam_output": "--with-gradcam-output",
    "labels": "--labels",
    "level": "--optimize",
    "max_memory": "--max-memory",
    "overwrite": "--overwrite",
    "parity_data": "--parity-data",
    "precision": "--precision",
    "provider": "--provider",
    "provider_options": "--provider-option",
    "report": "--report",
    "resume": "--resume",
    "scan_timeout": "--scan-timeout",
    "series": "--series-uid",
    "shape": "--shape",
    "skip_bad": "--skip-invalid",
    "split": "--split",
    "use_tuning": "--ignore-tuning",
    "weight_dtype": "--weight-dtype",
    "workers": "--workers",
}
"""Arguments of the library that messages name, and the options that set them."""

OPTION_OF_VALUE = {"mixed_float16": "--mixed-precision", "mixed_bfloat16": "--mixed-precision"}
"""`precision` of a network in training is another option than that of a file."""

_ARGUMENT = re.compile(rf"`({'|'.join(OPTION_OF_ARGUMENT)})(?:=([^`]*))?`")

FORMER_OPTIONS = {
    "--allow": ("--downgrade-check",),
    "--anew": ("--recompute",),
    "--batch": ("--batch-size",),
    "--budget": ("--time-limit",),
    "--calibrate": ("--calibration-data",),
    "--distribute": ("--strategy",),
    "--every": ("--poll-interval",),
    "--explain": ("--gradcam-dir", "--with-gradcam-output"),
    "--initial": ("--init-weights",),
    "--json": ("--out",),
    "--latency-bound": ("--latency-slo",),
    "--limit": ("--atol",),
    "--memory-budget": ("--max-memory",),
    "--no-tuned": ("--ignore-tuning",),
    "--precision": ("--mixed-precision", "--allow-precision"),
    "--proof": ("--parity-data",),
    "--receipt": ("--run-report",),
    "--rule": ("--threshold-method",),
    "--scans": ("--input", "--num-scans"),
    "--series": ("--series-uid", "--metric"),
    "--settle": ("--stable-for",),
    "--size": ("--shape",),
    "--skip-bad": ("--skip-invalid",),
    "--target-precision": ("--ci-width",),
    "--weights": ("--weight-dtype",),
    "--with-identifiers": ("--include-phi",),
}
"""Options of 0.1 before its release and what a command may call them now. Taken for one release, with a warning."""


def to_option_names(message: str) -> str:
    """Replace arguments by options: ```batch_size=4``` by ``--batch-size 4``, ```allow_fallback=True``` by its flag."""

    def option(found: re.Match[str]) -> str:
        value = (found[2] or "").strip("[]()'\"").replace(", ", " ")
        name = OPTION_OF_VALUE.get(value, OPTION_OF_ARGUMENT[found[1]])
        return name if value in ("", "True", "False") else f"{name} {value}"

    return _ARGUMENT.sub(option, message)


COMMANDS_OF_FORMER = {
    "--batch": ("build",),
    "--json": ("bench",),
    "--scans": ("bench", "synth"),
    "--size": ("export", "train"),
}
"""The only commands that had options whose present names other commands have too."""


def rename_former_options(args: list[str], known: set[str], command: str) -> tuple[list[str], list[str]]:
    """Arguments with former names of options replaced by those that ``command`` has, and a warning for each."""
    renamed: list[str] = []
    warnings: list[str] = []
    for index, word in enumerate(args):
        if word == "--":
            return [*renamed, *args[index:]], warnings
        name, equals, value = word.partition("=")
        now = next((option for option in FORMER_OPTIONS.get(name, ()) if option in known), None)
        if now is None or name in known or command not in COMMANDS_OF_FORMER.get(name, (command,)):
            renamed.append(word)
            continue
        renamed.append(f"{now}{equals}{value}")
        warnings.append(f"{name} is now called {now}; the former name goes in the next release.")
    return renamed, warnings
