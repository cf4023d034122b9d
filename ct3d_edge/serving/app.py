"""The routes of the server, and the document that describes them."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ct3d_edge.serving.guard import ERROR_HANDLERS, RequestGuard
from ct3d_edge.serving.oip_endpoints import OipEndpoints
from ct3d_edge.serving.openapi import ANY_OBJECT, BINARY, JSON, TEXT, Operation, make_document
from ct3d_edge.serving.scan_endpoint import OUTPUTS, ScanEndpoint
from ct3d_edge.serving.service import Service

Handler = Callable[[Request], Awaitable[Response]]

FAILED = {JSON: {"$ref": "#/components/schemas/Error"}}
RECORD = {JSON: {"$ref": "#/components/schemas/Record"}}
ANSWER = {JSON: ANY_OBJECT}

BODY_ERRORS = {
    400: ("The request cannot be understood.", FAILED),
    408: ("The body comes too slowly.", FAILED),
    411: ("There is no body.", FAILED),
    413: ("The body is larger than the server's limit.", FAILED),
    415: ("The body is compressed by Content-Encoding.", FAILED),
    500: ("The server or its model failed.", FAILED),
    503: ("The queue is full; Retry-After has seconds.", FAILED),
    507: ("The server has no disk space.", FAILED),
}
MODEL = "/v2/models/{model}"
VERSION = MODEL + "/versions/{version}"


def make_app(service: Service) -> Starlette:
    """The ASGI application of a server."""
    table = _make_table(service)
    document = make_document((operation for operation, _ in table), tokens=bool(service.tokens))

    async def openapi(_: Request) -> Response:
        return JSONResponse(document)

    routes = [Route(operation.path, handler, methods=[operation.method]) for operation, handler in table]
    return Starlette(
        routes=[*routes, Route("/openapi.json", openapi)],
        middleware=[Middleware(RequestGuard, service=service)],
        exception_handlers=ERROR_HANDLERS,
    )


def _make_table(service: Service) -> list[tuple[Operation, Handler]]:
    """Every operation with its handler."""

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.to_text(), media_type="text/plain; version=0.0.4")

    return [
        (_scan_operation(), ScanEndpoint(service).post),
        (_get("/metrics", "Metrics for Prometheus.", {TEXT: {"type": "string"}}), metrics),
        *_inference_table(OipEndpoints(service)),
    ]


def _inference_table(oip: OipEndpoints) -> list[tuple[Operation, Handler]]:
    table: list[tuple[Operation, Handler]] = [
        (_get("/v2", "Name, version and extensions of the server."), oip.server),
        (_get("/v2/health/live", "Whether the server works.", fails=503), oip.health),
        (_get("/v2/health/ready", "Whether the server works.", fails=503), oip.health),
    ]
    for path in (MODEL, VERSION):
        table += [
            (_get(path, "Inputs and outputs of the model.", fails=404), oip.model),
            (_get(f"{path}/ready", "Whether the model answers.", fails=404), oip.model_ready),
            (_infer_operation(f"{path}/infer"), oip.infer),
        ]
    return table


def _get(path: str, summary: str, media: dict[str, object] | None = None, fails: int | None = None) -> Operation:
    failures = {fails: ("No.", ANSWER)} if fails else {}
    return Operation("GET", path, summary, {200: ("Yes.", media or ANSWER), **failures})


def _scan_operation() -> Operation:
    octets = {"type": "string", "format": "binary"}
    return Operation(
        "POST",
        "/v1/scans",
        "Predict one scan: a NIfTI, MetaImage, NRRD or DICOM file, a zip archive, or those as multipart/form-data.",
        {
            200: (
                "The record; with output= a zip archive of record.json and the outputs.",
                {**RECORD, "application/zip": octets},
            ),
            **BODY_ERRORS,
            422: ("The scan has no prediction (a record), or the upload holds no single scan.", {JSON: ANY_OBJECT}),
            501: ("The model takes no scans, or computes no maps.", FAILED),
            504: ("The scan took too long (a record).", RECORD),
        },
        {BINARY: octets, "multipart/form-data": ANY_OBJECT},
        {
            "output": {"type": "array", "items": {"enum": list(OUTPUTS)}},
            "series_uid": {"type": "string"},
        },
    )


def _infer_operation(path: str) -> Operation:
    octets = {"type": "string", "format": "binary"}
    return Operation(
        "POST",
        path,
        "Run the network on tensors, as JSON or with the binary extension of the Open Inference Protocol.",
        {
            200: ("The outputs.", {JSON: ANY_OBJECT, BINARY: octets}),
            404: ("There is no such model.", FAILED),
            422: ("The network gave NaN or infinity.", FAILED),
            **BODY_ERRORS,
        },
        {JSON: ANY_OBJECT, BINARY: octets},
    )
