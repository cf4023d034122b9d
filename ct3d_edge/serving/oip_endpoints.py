"""The paths of the Open Inference Protocol: ``/v2``, as Triton and KServe answer them."""

import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ct3d_edge.modelfile.signature import PROBABILITIES_OUTPUT
from ct3d_edge.serving.body import receive_file
from ct3d_edge.serving.request_error import RequestError
from ct3d_edge.serving.service import Service, wait_for_disconnect
from ct3d_edge.serving.spool import request_folder
from ct3d_edge.serving.tensors import read_request, write_response

MODEL_VERSION = "1"
PLATFORM = "onnxruntime_onnx"
"""As Triton calls ONNX files."""

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"


class OipEndpoints:
    """The handlers of ``/v2``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def server(self, _: Request) -> Response:
        """Name and extensions of the server."""
        return JSONResponse(
            {"name": "ct3d-edge", "version": version("ct3d-edge"), "extensions": ["binary_tensor_data"]}
        )

    async def health(self, _: Request) -> Response:
        """Whether the session works. Some clients look for ``live``, others for ``ready``."""
        healthy = self._service.model.failure is None
        return JSONResponse({"live": healthy, "ready": healthy}, 200 if healthy else 503)

    async def model(self, request: Request) -> Response:
        """Inputs and outputs of the model."""
        self._require_model(request)
        model = self._service.model
        contract = model.file.contract
        return JSONResponse(
            {
                "name": self._service.name,
                "versions": [MODEL_VERSION],
                "platform": PLATFORM,
                "inputs": [spec.to_dict() for spec in model.inputs],
                "outputs": [spec.to_dict() for spec in model.outputs],
                "parameters": {"labels": list(contract.labels), "model_sha256": model.file.sha256},
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """Whether the model answers."""
        self._require_model(request)
        healthy = self._service.model.failure is None
        return JSONResponse({"name": self._service.name, "ready": healthy}, 200 if healthy else 503)

    async def infer(self, request: Request) -> Response:
        """Run the network on tensors."""
        self._require_model(request)
        service = self._service
        with service.queue.admit(), request_folder(service.spool) as folder:
            begun = time.perf_counter()
            body = await receive_file(request, folder / "body", service.limits)
            service.metrics.add_stage("receive", time.perf_counter() - begun)
            work = partial(self._infer, body, request.headers.get(JSON_LENGTH_HEADER))
            (content, length), waited = await service.queue.run(work, wait_for_disconnect(request))
        service.metrics.add_stage("queue", waited)
        if length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={JSON_LENGTH_HEADER: str(length)})

    def _infer(self, body: Path, json_length: str | None) -> tuple[bytes, int | None]:
        """The body of the response, in a worker thread."""
        model = self._service.model
        parsed = read_request(body, json_length, model.inputs, model.outputs)
        begun = time.perf_counter()
        outputs = model.predict_tensors(parsed.tensors, alone=self._service.queue.running <= 1)
        self._service.metrics.add_stage("infer", time.perf_counter() - begun)
        probabilities = outputs[PROBABILITIES_OUTPUT]
        self._service.metrics.add_inferences(1 if probabilities.ndim == 1 else len(probabilities))
        return write_response(self._service.name, MODEL_VERSION, parsed, outputs)

    def _require_model(self, request: Request) -> None:
        name, asked = request.path_params["model"], request.path_params.get("version", MODEL_VERSION)
        if name != self._service.name or asked != MODEL_VERSION:
            raise RequestError(
                404, "no_model", f"This server has the model {self._service.name}, version {MODEL_VERSION}, only."
            )
