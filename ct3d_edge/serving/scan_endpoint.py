"""``POST /v1/scans``: a scan in, its record out, with Grad-CAM map and report if asked for."""

import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ct3d_edge.inference.predict import ScanResult
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.serving.request_error import RequestError
from ct3d_edge.serving.served_model import ScanModel
from ct3d_edge.serving.service import Service, set_outcome, wait_for_disconnect
from ct3d_edge.serving.spool import request_folder
from ct3d_edge.serving.uploads import Upload, find_scan, receive_upload

OUTPUTS = ("gradcam", "report")

STATUS_OF_FAILURE = {"timeout": 504, "internal": 500}
"""HTTP status of a record without a prediction; others are 422: the scan is the reason."""


@dataclass(frozen=True)
class ScanQuery:
    """The query of a request: further outputs, and which series of an upload is meant."""

    outputs: frozenset[str]
    series_uid: str | None

    @classmethod
    def parse(cls, request: Request) -> "ScanQuery":
        """Check the parameters of a request.

        Raises
        ------
        RequestError
            400 if one is unknown or has an unknown value.
        """
        unknown = set(request.query_params) - {"output", "series_uid"}
        outputs = frozenset(request.query_params.getlist("output"))
        if unknown or outputs - set(OUTPUTS):
            raise RequestError(400, "bad_query", "The query takes output=gradcam, output=report and series_uid=UID.")
        return cls(outputs, request.query_params.get("series_uid"))


class ScanEndpoint:
    """The handler of ``POST /v1/scans``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def post(self, request: Request) -> Response:
        """Predict the scan in the body."""
        service = self._service
        model, query = self._require_model(), ScanQuery.parse(request)
        self._require_outputs(model, query)
        with service.queue.admit(), request_folder(service.spool) as folder:
            begun = time.perf_counter()
            upload = await receive_upload(request, folder, service.limits)
            service.metrics.add_stage("receive", time.perf_counter() - begun)
            work = partial(self._predict, model, upload, folder, query)
            (record, response), waited = await service.queue.run(work, wait_for_disconnect(request))
        service.metrics.add_stage("queue", waited)
        service.metrics.add_record(record)
        set_outcome(request, record.failure.code if record.failure else record.status)
        return response

    def _require_model(self) -> ScanModel:
        if not isinstance(self._service.model, ScanModel):
            raise RequestError(
                501, "tensors_only", "This model has the preprocessing inside and takes stored voxels; see /v2."
            )
        return self._service.model

    @staticmethod
    def _require_outputs(model: ScanModel, query: ScanQuery) -> None:
        if "gradcam" in query.outputs and not model.computes_gradcam:
            raise RequestError(
                501, "no_gradcam", "This server computes no Grad-CAM maps; it has to be started with --gradcam."
            )

    def _predict(
        self, model: ScanModel, upload: Upload, folder: Path, query: ScanQuery
    ) -> tuple[ResultRecord, Response]:
        """The record and the response, in a worker thread."""
        scan = find_scan(upload, query.series_uid, self._service.limits)
        alone = self._service.queue.running <= 1
        result = model.predict_scan(scan, self._service.limits.scan_timeout, alone=alone)
        record = _name_as_client(result.record, scan, upload)
        failure = record.failure
        status = STATUS_OF_FAILURE.get(failure.code, 422) if failure else 200
        if failure or not query.outputs:
            return record, JSONResponse(record.to_dict(), status)
        archive = _write_archive(model, replace(result, record=record), scan, folder, query.outputs)
        headers = {"Content-Disposition": 'attachment; filename="result.zip"'}
        return record, Response(archive.read_bytes(), media_type="application/zip", headers=headers)


def _name_as_client(record: ResultRecord, scan: Path, upload: Upload) -> ResultRecord:
    """The record with the client's names of files, in the sentence about a failure too."""
    failure = record.failure
    if failure is not None:
        failure = replace(failure, message=upload.with_client_names(failure.message))
    return replace(record, scan=upload.name_of(scan), failure=failure)


def _write_archive(model: ScanModel, result: ScanResult, scan: Path, folder: Path, outputs: frozenset[str]) -> Path:
    """A zip archive with ``record.json`` and the outputs."""
    from ct3d_edge.serving.scan_outputs import write_gradcam, write_report

    files = []
    if "gradcam" in outputs:
        files += write_gradcam(model.model, result, scan, folder)
    if "report" in outputs:
        files.append(write_report(model.model, result, folder))
    archive = folder / "result.zip"
    with ZipFile(archive, "w", ZIP_STORED) as stream:
        stream.writestr("record.json", json.dumps(result.record.to_dict(), indent=2, allow_nan=False))
        for path in files:
            stream.write(path, path.name)
    return archive
