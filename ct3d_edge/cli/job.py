"""``ct3d-edge job``: one study in, one folder of results out, as containers of routers and platforms work."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ct3d_edge.cli.click_extras import StrictCommand
from ct3d_edge.cli.config_file import parse_value, settable_parameters, suggest_name
from ct3d_edge.cli.job_study import JobOutputs, StudyRun
from ct3d_edge.cli.options import (
    AllowFallbackOption,
    DeviceIdOption,
    DowngradeCheckOption,
    IgnoreTuningOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    ScanMemoryOption,
    ScanTimeoutOption,
    SeriesUidOption,
    WorkersOption,
    inference_config,
    resolve_model_path,
)
from ct3d_edge.deployment.job_layout import LAYOUTS, JobLayout, LayoutName, find_layout, find_model
from ct3d_edge.deployment.job_result import FailOn
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size

ENVIRONMENT_PREFIX = "CT3D_EDGE_JOB"
"""Of the variables that set options: ``CT3D_EDGE_JOB_FAIL_ON``."""

FOLDER_OPTIONS = frozenset({"in", "out", "layout"})
"""Options that say where the study is, which no setting of the study can."""


class JobCommand(StrictCommand):
    """A command whose options may also come from the environment and from the study's task file."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.context_settings = {**self.context_settings, "auto_envvar_prefix": ENVIRONMENT_PREFIX}
        for parameter in self.params:
            parameter.show_envvar = False  # one sentence of the help stands for all
            parameter.allow_from_autoenv = parameter.name not in ("source", "out", "layout")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the study first: its task file holds defaults of the other options."""
        given = {} if ctx.resilient_parsing else self.make_parser(ctx).parse_args(list(args))[0]
        if not (ctx.resilient_parsing or given.get("help") or given.get("layout") not in (None, *LAYOUTS)):
            source, out = (Path(given[name]) if given.get(name) else None for name in ("source", "out"))
            ctx.default_map = parse_settings(self, find_layout(given.get("layout"), source, out, os.environ))
        return super().parse_args(ctx, args)


COMMAND_CLASS = JobCommand


def parse_settings(command: Any, layout: JobLayout) -> dict[str, Any]:
    """The settings of a task file as defaults of options, by the names of parameters.

    Raises
    ------
    UsageError
        With all settings that are no options, or have values that those do not take.
    """
    parameters = {key: each for key, each in settable_parameters(command).items() if key not in FOLDER_OPTIONS}
    values: dict[str, Any] = {}
    errors: list[str] = []
    for name, value in layout.settings.items():
        key = name.replace("_", "-")
        try:
            if key not in parameters:
                raise UsageError(f"there is no such option.{suggest_name(key, parameters)}")
            values[parameters[key].name] = parse_value(command, parameters[key], value, Path())
        except UsageError as error:
            errors.append(f"{layout.settings_source}.{name}: {error}")
    if errors:
        raise UsageError("\n".join(errors))
    return values


def job(
    source: Annotated[
        Path | None, typer.Option("--in", metavar="DIR", help="Folder with the study; else from the environment.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results; made if it is not there.")
    ] = None,
    layout: Annotated[
        LayoutName | None,
        typer.Option(
            "--layout", metavar="NAME", help=f"{', '.join(LAYOUTS)}; else the first that the environment shows."
        ),
    ] = None,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    ignore_tuning: IgnoreTuningOption = False,
    dicom_sr: Annotated[
        bool,
        typer.Option(
            "--dicom-sr/--no-dicom-sr",
            help="Write a DICOM structured report of each DICOM series that has a prediction. It names the patient.",
        ),
    ] = True,
    dicom_sc: Annotated[
        bool,
        typer.Option(
            "--dicom-sc",
            help="Experimental: write slices of each DICOM series under their Grad-CAM map. They name the patient.",
        ),
    ] = False,
    dicom_pm: Annotated[
        bool,
        typer.Option(
            "--dicom-pm",
            help="Experimental: write the Grad-CAM map of each DICOM series as a parametric map. It names the patient.",
        ),
    ] = False,
    gradcam: Annotated[
        bool, typer.Option("--gradcam", help="Experimental: write a Grad-CAM map (.nii.gz) and a picture of each scan.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Write report.html: table and pictures.")] = False,
    probability: Annotated[
        list[str] | None,
        typer.Option(
            "--probability",
            metavar="CLASS=FILE",
            help="Write the probability of CLASS as a bare JSON number to FILE in --out; repeatable.",
        ),
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(
            "--notify",
            metavar="OUTCOME",
            help="mercure: notify people of this class or status (warn, refused, error); repeatable.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="OUTCOME=NAME",
            help="mercure: send results of this class or status to this target; `discard` sends nothing; repeatable.",
        ),
    ] = None,
    fail_on: Annotated[
        FailOn,
        typer.Option(
            "--fail-on",
            metavar="STATUS",
            help="Exit with code 1 if a scan is refused (`refused`) or cannot be read (`error`), or `never`.",
        ),
    ] = "error",
    workers: WorkersOption = None,
    max_memory: ScanMemoryOption = None,
    scan_timeout: ScanTimeoutOption = None,
    series_uid: SeriesUidOption = None,
    downgrade_check: DowngradeCheckOption = None,
) -> None:
    """Predict one study and write a folder of results.

    For containers that mercure, MONAI Deploy, Kaapana or grand-challenge start. Nothing is written elsewhere. A
    refused scan is a result with a reason, not an error. Options may also be set by variables of the environment
    (CT3D_EDGE_JOB_FAIL_ON) and by mercure's settings.
    """
    from ct3d_edge.cli.terminal import log, log_run_report
    from ct3d_edge.deployment.job_result import RESULT_FILE, parse_assignments, parse_probabilities, require_labels
    from ct3d_edge.inference.model import open_model
    from ct3d_edge.system.atomic_write import make_folder, require_writable

    found = find_layout(layout, source, out, os.environ)
    found.check_folders()
    config = inference_config(
        provider,
        allow_fallback,
        provider_option,
        device_id,
        no_build=no_build,
        no_tuned=ignore_tuning,
        gradcam=gradcam or dicom_sc or dicom_pm,
        allow=downgrade_check,
    )
    outputs = JobOutputs(
        dicom_sr,
        dicom_sc,
        dicom_pm,
        gradcam,
        report,
        parse_probabilities(probability or ()),
        tuple(notify or ()),
        parse_assignments(target or (), "--target", "OUTCOME=NAME"),
    )
    budget = parse_size(max_memory)
    for study in found.studies:
        make_folder(study.out)
        for name in (RESULT_FILE, *outputs.probabilities.values()):
            require_writable(study.out / name)
    path = model or find_model(os.environ)
    failed = False
    with open_model(path, config) as opened:
        require_labels(outputs.probabilities, opened.contract.labels)
        log_run_report(opened.run_report)
        for study in found.studies:
            run = StudyRun(opened, resolve_model_path(path).stem, study, outputs, scan_timeout)
            result = run.predict(series_uid, workers, budget)
            run.write(result, mercure=found.name == "mercure")
            log(f"{study.source}: {result.status}: {result.describe()}")
            log(f"wrote {study.out / RESULT_FILE}")
            failed |= result.fails(fail_on) or (not run.complete and fail_on != "never")
    raise typer.Exit(int(failed))
