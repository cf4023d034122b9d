"""The OpenAPI document, made from the same table as the routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

JSON, BINARY, TEXT = "application/json", "application/octet-stream", "text/plain"

ANY_OBJECT = {"type": "object"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/Problem"}]}},
}
PROBLEM = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
}
RECORD = {
    "type": "object",
    "description": "The record that `ct3d-edge infer` writes (docs/results.md).",
    "required": ["schema", "scan", "status", "label", "probability", "flags", "error", "timing_ms", "model_sha256"],
    "properties": {
        "status": {"enum": ["ok", "warn", "refused", "error"]},
        "label": {"type": ["string", "null"]},
        "probability": {"type": ["object", "null"], "additionalProperties": {"type": "number"}},
        "flags": {"type": "array", "items": ANY_OBJECT},
        "error": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Problem"}]},
    },
}


@dataclass(frozen=True)
class Operation:
    """One method of one path, for the document.

    Parameters
    ----------
    method, path
        As in the routes.
    summary
        One sentence.
    responses
        Status to its description and media types with their schemas.
    body
        Media types of the request's body with their schemas.
    query
        Parameters of the query, with their schemas.
    """

    method: str
    path: str
    summary: str
    responses: Mapping[int, tuple[str, Mapping[str, object]]]
    body: Mapping[str, object] = field(default_factory=dict)
    query: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The operation object."""
        found: dict[str, Any] = {
            "summary": self.summary,
            "operationId": self.method + "".join(c if c.isalnum() else "_" for c in self.path),
            "parameters": [
                *(_parameter(name, "path", {"type": "string"}) for name in _names_in(self.path)),
                *(_parameter(name, "query", schema) for name, schema in self.query.items()),
            ],
            "responses": {
                str(status): {"description": text, "content": _content(media)}
                for status, (text, media) in self.responses.items()
            },
        }
        if self.body:
            found["requestBody"] = {"required": True, "content": _content(self.body)}
        return found


def make_document(operations: Iterable[Operation], *, tokens: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the operations.

    Parameters
    ----------
    tokens
        Whether requests need a bearer token.
    """
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.to_dict()
    components: dict[str, Any] = {"schemas": {"Record": RECORD, "Error": ERROR, "Problem": PROBLEM}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "ct3d-edge serve",
            "version": version("ct3d-edge"),
            "description": "Predictions of one model for CT scans and tensors. Not for clinical use.",
        },
        "paths": paths,
        "components": components,
    }
    if tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _content(media: Mapping[str, object]) -> dict[str, object]:
    return {kind: {"schema": schema} for kind, schema in media.items()}


def _names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _parameter(name: str, where: str, schema: object) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}
