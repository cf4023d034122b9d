"""``ct3d-edge listen``: a DICOM node that predicts the series it receives and sends reports to an archive."""

import logging
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.checked_text import parse_ae_title, parse_destination, parse_peer
from ct3d_edge.cli.click_extras import checked_by
from ct3d_edge.cli.config_file import ConfigurableCommand
from ct3d_edge.cli.options import (
    AllowFallbackOption,
    DeviceIdOption,
    DowngradeCheckOption,
    IgnoreTuningOption,
    IncludePhiOption,
    ModelOption,
    ProviderOption,
    ProviderOptionsOption,
    ScanMemoryOption,
    ScanTimeoutOption,
    WorkersOption,
    inference_config,
)
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size, plural

if TYPE_CHECKING:
    from ct3d_edge.inference.config import InferenceConfig
    from ct3d_edge.node.config import NodeConfig
    from ct3d_edge.system.tls import TlsFiles

EXIT_CHECK_FAILED = 3
"""Of ``--check``: the settings, or the environment, cannot do what was asked."""

COMMAND_CLASS = ConfigurableCommand


def listen(
    spool: Annotated[
        Path, typer.Option("--spool", metavar="FOLDER", help="What is received and yet to be sent; made if missing.")
    ],
    peer: Annotated[
        list[str],
        typer.Option(
            "--peer",
            metavar="AET@HOST",
            callback=checked_by(parse_peer),
            help="Who may send: AE title and host, address or network; repeatable.",
        ),
    ],
    send_to: Annotated[
        list[str] | None,
        typer.Option(
            "--send-to",
            metavar="AET@HOST:PORT",
            callback=checked_by(parse_destination),
            help="Where each report is sent; repeatable.",
        ),
    ] = None,
    ae_title: Annotated[
        str,
        typer.Option("--ae-title", metavar="AET", callback=checked_by(parse_ae_title), help="AE title of this node."),
    ] = "CT3D-EDGE",
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 11112,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate (PEM): peers have to use TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key (PEM).")] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option("--tls-ca", metavar="FILE", help="Authorities (PEM); a peer must show one's certificate."),
    ] = None,
    send_tls: Annotated[bool, typer.Option("--send-tls", help="Send reports with TLS too.")] = False,
    stable_for: Annotated[
        float, typer.Option("--stable-for", min=0.1, help="Seconds without a new instance until a series is complete.")
    ] = 10,
    complete_on_release: Annotated[
        bool,
        typer.Option("--complete-on-release", help="A series is complete when its sender releases the association."),
    ] = False,
    complete_on_count: Annotated[
        bool, typer.Option("--complete-on-count", help="A series is complete with as many images as it declares.")
    ] = False,
    max_associations: Annotated[
        int, typer.Option("--max-associations", min=1, help="Associations at the same time.")
    ] = 16,
    max_pdu: Annotated[
        int, typer.Option("--max-pdu", min=4096, max=1 << 27, help="Bytes of a PDU that a peer may send.")
    ] = 1 << 20,
    max_instances: Annotated[int, typer.Option("--max-instances", min=1, help="Instances of a series.")] = 10_000,
    max_instance_size: Annotated[
        str, typer.Option("--max-instance-size", callback=checked_by(parse_size), help="Size of an instance.")
    ] = "2GiB",
    max_series_size: Annotated[
        str, typer.Option("--max-series-size", callback=checked_by(parse_size), help="Size of a series.")
    ] = "8GiB",
    min_free: Annotated[
        str,
        typer.Option(
            "--min-free",
            callback=checked_by(parse_size),
            help="Disk space to leave free; instances are refused before.",
        ),
    ] = "1GiB",
    max_results_size: Annotated[
        str,
        typer.Option(
            "--max-results-size",
            callback=checked_by(parse_size),
            help="Size of results.jsonl; then it becomes results.1.jsonl.",
        ),
    ] = "64MiB",
    network_timeout: Annotated[
        float, typer.Option("--network-timeout", min=1, help="Seconds to wait for a peer.")
    ] = 30,
    dicom_sc: Annotated[
        bool,
        typer.Option("--dicom-sc", help="Experimental: also send slices of each series under their Grad-CAM map."),
    ] = False,
    dicom_pm: Annotated[
        bool,
        typer.Option("--dicom-pm", help="Experimental: also send the Grad-CAM map of each series as a parametric map."),
    ] = False,
    retention_hours: Annotated[
        float, typer.Option("--retention-hours", min=0, help="Hours for which predicted series and reports are stored.")
    ] = 24,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_tuned: IgnoreTuningOption = False,
    workers: WorkersOption = None,
    max_memory: ScanMemoryOption = None,
    scan_timeout: ScanTimeoutOption = None,
    allow: DowngradeCheckOption = None,
    include_phi: IncludePhiOption = False,
    check: Annotated[bool, typer.Option("--check", help="Try settings, model and peers (C-ECHO), and end.")] = False,
) -> None:
    """Receive CT series over DICOM, predict and report them.

    It runs until Ctrl-C. Started again, it goes on where it was: nothing that was accepted is lost or predicted twice.
    """
    from ct3d_edge.extras import require_extra

    require_extra("node", ["pynetdicom"])
    from ct3d_edge.node.config import Completion, Limits, MapKinds, NodeConfig, Peer

    config = NodeConfig(
        spool=spool,
        peers=tuple(Peer.parse(text, "peer") for text in peer),
        destinations=tuple(Peer.parse(text, "send_to") for text in send_to or ()),
        ae_title=ae_title,
        host=host,
        port=port,
        tls=_tls_files(tls_cert, tls_key, tls_ca),
        send_tls=send_tls,
        completion=Completion(stable_for, complete_on_release, complete_on_count),
        limits=Limits(
            max_pdu=max_pdu,
            max_associations=max_associations,
            max_instance_bytes=parse_size(max_instance_size) or 0,
            max_series_bytes=parse_size(max_series_size) or 0,
            max_instances=max_instances,
            min_free_bytes=parse_size(min_free) or 0,
            max_results_bytes=parse_size(max_results_size) or 0,
            network_timeout=network_timeout,
        ),
        maps=MapKinds(dicom_sc, dicom_pm),
        retention_hours=retention_hours,
    )
    if config.destinations:
        require_extra("dicom", ["highdicom"])
    inference = inference_config(
        provider,
        allow_fallback,
        provider_option,
        device_id,
        no_tuned=no_tuned,
        gradcam=config.maps.any,
        allow=allow,
        include_phi=include_phi,
    )
    if check:
        _print_checks(config, model, inference)
    else:
        _run_node(config, model, inference, workers, parse_size(max_memory), scan_timeout)


def _run_node(
    config: "NodeConfig",
    model: Path | None,
    inference: "InferenceConfig",
    workers: int | None,
    max_memory: int | None,
    scan_timeout: float | None,
) -> None:
    """Receive and predict until Ctrl-C."""
    from ct3d_edge.cli.options import resolve_model_path
    from ct3d_edge.cli.terminal import log, log_run_report
    from ct3d_edge.inference.model import open_model
    from ct3d_edge.node.node import count_workers, open_node
    from ct3d_edge.system.tls import describe_expiry

    if config.tls and (warning := describe_expiry(config.tls)):
        log(warning, logging.WARNING)
    with open_model(model, inference) as opened:
        schedule = opened.make_schedule(workers=workers, max_memory=max_memory)
        with open_node(config, opened, resolve_model_path(model), schedule, scan_timeout) as node:
            log_run_report(opened.run_report)
            speed = f"{plural(count_workers(schedule), 'series', 'series')} at a time"
            for line in _describe(config, f"{speed}, {plural(schedule.threads, 'thread')} each"):
                log(line)
            node.run()
    log("stopped")


def _tls_files(certificate: Path | None, key: Path | None, ca: Path | None) -> "TlsFiles | None":
    """The certificates, all or none.

    Raises
    ------
    UsageError
        If some are left out, or the certificate has expired.
    """
    from ct3d_edge.system.tls import TlsFiles, read_expiry

    if certificate is None or key is None or ca is None:
        if certificate or key or ca:
            raise UsageError("TLS needs --tls-cert, --tls-key and --tls-ca; give all three.")
        return None
    files = TlsFiles(certificate, key, ca)
    read_expiry(files)
    return files


def _print_checks(config: "NodeConfig", model: Path | None, inference: "InferenceConfig") -> None:
    """Print what was tried; exit code 3 if something does not work."""
    from ct3d_edge.cli.logs import to_option_names
    from ct3d_edge.cli.terminal import print_lines
    from ct3d_edge.node.check import check_model, check_node

    failed = 0
    for result in chain(check_node(config), [check_model(model, inference)]):
        status, detail = "ok    " if result.passed else "FAILED", to_option_names(result.detail)
        print_lines([f"{status}  {result.name}: {detail}"], indent=8)
        failed += not result.passed
    if failed:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _describe(config: "NodeConfig", schedule: str) -> list[str]:
    """What the node does, in lines of the log."""
    where = f"{config.host}:{config.port}" + (" with TLS" if config.tls else "")
    to = ", ".join(map(str, config.destinations))
    sent = f"reports go to {to}" if to else "no report is sent, as there is no --send-to"
    stay = f"for {config.retention_hours:g} h" if config.retention_hours else "until they are predicted"
    return [
        f"{config.ae_title} listens on {where}: {plural(len(config.peers), 'peer')}; {schedule}",
        f"{sent}; series stay in {config.spool} {stay}; Ctrl-C ends it",
    ]
