"""``ct3d-edge serve``: predictions over HTTP, with the model loaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.click_extras import checked_by
from ct3d_edge.cli.config_file import ConfigurableCommand
from ct3d_edge.cli.options import (
    AllowFallbackOption,
    DeviceIdOption,
    DowngradeCheckOption,
    IgnoreTuningOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    RunReportOption,
    WorkersOption,
    inference_config,
)
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import parse_size

if TYPE_CHECKING:
    from ct3d_edge.session.run_report import RunReport
    from ct3d_edge.system.tls import TlsFiles

MODULES = ("starlette", "uvicorn", "python_multipart", "prometheus_client")
"""What the extra `serve` brings."""

COMMAND_CLASS = ConfigurableCommand


def serve(
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    no_tuned: IgnoreTuningOption = False,
    run_report: RunReportOption = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Requests need a token of this file (one per line, mode 600).")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate of the server (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its private key, if in another file.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option("--client-ca", help="Clients need a certificate of this authority (mutual TLS).")
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Serve other machines without token or client certificate.")
    ] = False,
    model_name: Annotated[
        str | None, typer.Option("--model-name", help="Name in /v2/models/NAME; that of the file if left out.")
    ] = None,
    gradcam: Annotated[
        bool, typer.Option("--gradcam", help="Compute Grad-CAM maps for requests that ask for them.")
    ] = False,
    workers: WorkersOption = None,
    queue_size: Annotated[
        int, typer.Option("--queue-size", min=0, help="Requests that may wait; further ones get 503 and Retry-After.")
    ] = 32,
    max_upload: Annotated[
        str, typer.Option("--max-upload", callback=checked_by(parse_size), help="Largest body of a request.")
    ] = "1GB",
    max_files: Annotated[
        int, typer.Option("--max-files", min=1, help="Most files in a zip archive or multipart body.")
    ] = 10_000,
    max_connections: Annotated[int, typer.Option("--max-connections", min=1, help="Most open connections.")] = 256,
    body_timeout: Annotated[
        float, typer.Option("--body-timeout", min=0.1, help="Seconds for which a client may be silent or too slow.")
    ] = 30,
    scan_timeout: Annotated[
        float, typer.Option("--scan-timeout", min=0.001, help="Seconds after which a scan is given up.")
    ] = 300,
    shutdown_timeout: Annotated[
        float, typer.Option("--shutdown-timeout", min=1, help="Seconds that running requests get after SIGTERM.")
    ] = 60,
    temp_dir: Annotated[
        Path | None, typer.Option("--temp-dir", help="Folder for uploads while they are predicted.")
    ] = None,
    min_free: Annotated[
        str,
        typer.Option(
            "--min-free",
            callback=checked_by(parse_size),
            help="Disk space for uploads to leave free; larger ones get 507.",
        ),
    ] = "256MB",
    allow: DowngradeCheckOption = None,
) -> None:
    """Predict scans and tensors over HTTP, until Ctrl-C.

    POST /v1/scans takes a scan and returns its record; /v2 is the Open Inference Protocol; /metrics is for Prometheus;
    /openapi.json describes all. Only this machine can connect unless --host says otherwise.
    """
    from ct3d_edge.extras import require_extra

    require_extra("serve", MODULES)
    from ct3d_edge.cli.terminal import log_run_report
    from ct3d_edge.serving.config import ServerConfig, ServerLimits
    from ct3d_edge.serving.server import serve as serve_model

    def log_session(report: "RunReport") -> None:
        log_run_report(report)
        if run_report:
            report.save(run_report)

    upload_bytes, free_bytes = parse_size(max_upload) or 0, parse_size(min_free) or 0
    limits = ServerLimits(queue_size, upload_bytes, max_files, max_connections, body_timeout, scan_timeout, free_bytes)
    config = ServerConfig(
        host,
        port,
        token_file,
        _tls_files(tls_cert, tls_key, client_ca),
        allow_anonymous=allow_anonymous,
        temp_dir=temp_dir,
        model_name=model_name,
        shutdown_timeout=shutdown_timeout,
        limits=limits,
    )
    inference = inference_config(
        provider,
        allow_fallback,
        provider_option,
        device_id,
        no_build=no_build,
        no_tuned=no_tuned,
        gradcam=gradcam,
        allow=allow,
    )
    serve_model(model, inference, config, workers, log_session)


def _tls_files(certificate: Path | None, key: Path | None, client_ca: Path | None) -> "TlsFiles | None":
    from ct3d_edge.system.tls import TlsFiles

    if certificate is None:
        if key or client_ca:
            raise UsageError("--tls-key and --client-ca need --tls-cert, the certificate of the server.")
        return None
    return TlsFiles(certificate, key, client_ca)
