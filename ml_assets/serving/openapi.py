"""The OpenAPI document of the server and its model, and a documentation page that needs no network."""

import html
from typing import Any

import orjson

from ml_assets.serving.servable import Servable, TensorSpec
from ml_assets.serving.settings import ServeSettings
from ml_assets.serving.signature import Column
from ml_assets.serving.tensors import DATATYPES

__all__ = ["documentation_page", "example_request", "openapi_document"]

_ERRORS = {
    400: "The request is malformed, or a value does not match the signature; the message names it.",
    404: "The model or version is not served.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    415: "The content type or content encoding is not supported.",
    500: "The model failed.",
    503: "The server is overloaded or not ready; see Retry-After.",
}
_SCALARS: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "long": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": "number", "minimum": -3e38, "maximum": 3e38},
    "double": {"type": "number", "minimum": -3e38, "maximum": 3e38},
    "string": {"type": "string"},
}

_PARAMS = {"type": ["object", "null"], "description": "Ignored, because the model has no params schema."}


def openapi_document(servable: Servable, settings: ServeSettings) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1), with the model's own columns or tensors."""
    identity = servable.identity
    model = f"/v2/models/{identity.name}"
    pages: dict[str, Any] = {}
    for place, operation in ((model, "infer"), (f"{model}/versions/{identity.version}", "inferByVersion")):
        pages[place] = {"get": _get(f"{operation}Metadata", "Inputs and outputs of the model.")}
        pages[f"{place}/ready"] = {"get": _get(f"{operation}Ready", "Readiness of the model.", 503)}
        pages[f"{place}/infer"] = {
            "post": _post(operation, "Predict.", "InferenceRequest", "InferenceResponse", "Error")
        }
    invoke = _post(
        "invocations",
        "Predict, with the protocol of MLflow's scoring server.",
        "Invocation",
        "Predictions",
        "MlflowError",
    )
    if servable.table is not None:
        invoke["requestBody"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{identity.name} {identity.version}",
            "version": identity.version,
            "description": f"Model {identity.digest}, over the Open Inference Protocol v2 and MLflow's protocol.",
        },
        "paths": {
            **pages,
            "/invocations": {"post": invoke},
            "/v2": {"get": _get("server", "Name, version and extensions of the server.")},
            "/v2/health/live": {"get": _get("live", "Liveness of the server.")},
            "/v2/health/ready": {"get": _get("ready", "Readiness of the server.", 503)},
            "/ping": {"get": _get("ping", "Readiness of the server, in MLflow's protocol.", 503, None)},
            "/health": {"get": _get("health", "The same as /ping.", 503, None)},
            "/example": {"get": _get("example", "A valid body for /invocations, from the recorded example.")},
            "/version": {"get": _get("version", "The server's version.", None, "text/plain")},
            "/metrics": {"get": _get("metrics", "Metrics in Prometheus' text format.", None, "text/plain")},
        },
        "components": {"schemas": _schemas(servable, settings)},
    }


def documentation_page(servable: Servable, settings: ServeSettings) -> bytes:
    """Return the document as an HTML page with a request form."""
    document = openapi_document(servable, settings)
    example = orjson.dumps(example_request(servable), option=orjson.OPT_INDENT_2).decode()
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code><td><code>{html.escape(path)}</code><td>{html.escape(entry['summary'])}"
        for path, methods in document["paths"].items()
        for method, entry in methods.items()
    )
    inputs = "".join(
        f"<tr><td><code>{html.escape(spec.name)}</code><td>{spec.datatype}<td>{list(spec.shape)}"
        for spec in servable.inputs
    )
    page = _PAGE
    for name, value in {
        "title": html.escape(document["info"]["title"]),
        "description": html.escape(document["info"]["description"]),
        "rows": rows,
        "inputs": inputs,
        "example": html.escape(example),
    }.items():
        page = page.replace(f"[[{name}]]", value)
    return page.encode()


def example_request(servable: Servable) -> dict[str, Any]:
    """Return a valid body for ``/invocations``: the recorded example, reduced to its first row if it is a table."""
    example = servable.example or {}
    if servable.table is None:
        return {"inputs": example}
    return {"dataframe_split": {**example, "data": example.get("data", [])[:1]}}


def _schemas(servable: Servable, settings: ServeSettings) -> dict[str, Any]:
    parameters = {"type": "object"}
    tensor = {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "parameters": parameters,
    }
    response = {**tensor, "data": {"type": "array"}}
    return {
        "InferenceRequest": _closed(
            {
                "id": {"type": "string"},
                "parameters": parameters,
                "inputs": {"type": "array", "minItems": 1, "items": _any_of(_input_schemas(servable))},
                "outputs": {
                    "type": "array",
                    "items": _closed(
                        {"name": {"enum": [output.name for output in servable.outputs]}, "parameters": parameters},
                        "name",
                    ),
                },
            },
            "inputs",
        ),
        "InferenceResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "id", "parameters", "outputs"],
            "properties": {
                "model_name": {"const": servable.identity.name},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "parameters": {"type": "object", "required": ["model_digest", "image_digest"]},
                "outputs": {
                    "type": "array",
                    "items": {"type": "object", "required": ["name", "shape", "datatype"], "properties": response},
                },
            },
        },
        "Invocation": _any_of(_invocation_schemas(servable)),
        "Predictions": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array"}},
        },
        "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
        "MlflowError": {
            "type": "object",
            "required": ["error_code", "message"],
            "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
        },
    }


def _input_schemas(servable: Servable) -> list[dict[str, Any]]:
    schemas = [_input_schema(spec) for spec in servable.inputs]
    if servable.table is not None and servable.table.matrix_name is not None:
        schemas.append(_input_schema(servable.graph_inputs[0]))
    return schemas


def _input_schema(spec: TensorSpec) -> dict[str, Any]:
    kind = {"BOOL": "boolean", "BYTES": "string"}.get(spec.datatype, "number")
    return _closed(
        {
            "name": {"const": spec.name},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"const": spec.datatype},
            "parameters": {"type": "object"},
            "data": {"type": "array", "items": {"type": [kind, "array"]}},
        },
        "name",
        "shape",
        "datatype",
        "data",
    )


def _invocation_schemas(servable: Servable) -> list[dict[str, Any]]:
    if servable.table is None:
        names = [spec.name for spec in servable.graph_inputs]
        tensors = {"anyOf": [{"type": "array"}, {"type": "object", "required": names}]}
        return [_closed({"inputs": tensors, "params": _PARAMS}, "inputs")]
    columns = servable.table.columns
    record = _closed({each.name: _scalar(each) for each in columns}, *(each.name for each in columns if each.required))
    records = {"type": "array", "minItems": 1, "items": record}
    split = _closed(
        {
            "columns": {"const": servable.table.names},
            "index": {"type": "array"},
            "data": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "array",
                    "prefixItems": [_scalar(each) for each in columns],
                    "minItems": len(columns),
                    "maxItems": len(columns),
                },
            },
        },
        "columns",
        "data",
    )
    forms = {"dataframe_split": split, "dataframe_records": records, "instances": records, "inputs": records}
    return [_closed({name: schema, "params": _PARAMS}, name) for name, schema in forms.items()]


def _scalar(column: Column) -> dict[str, Any]:
    schema = _SCALARS[column.type]
    return schema if column.required else {"anyOf": [schema, {"type": "null"}]}


def _closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _get(
    operation: str, summary: str, other: int | None = None, media: str | None = "application/json"
) -> dict[str, Any]:
    content: dict[str, Any] = {"content": {media: {"schema": {}}}} if media else {}
    responses: dict[str, Any] = {"200": {"description": "Success.", **content}}
    if other:
        responses[str(other)] = {"description": "Not ready."}
    return {"operationId": operation, "summary": summary, "responses": responses}


def _post(operation: str, summary: str, request: str, response: str, error: str = "Error") -> dict[str, Any]:
    def content(name: str) -> dict[str, Any]:
        return {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}

    refused = {str(status): {"description": text, **content(error)} for status, text in _ERRORS.items()}
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, **content(request)},
        "responses": {"200": {"description": "Predictions.", **content(response)}, **refused},
    }


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>[[title]]</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{padding:.2rem 1rem .2rem 0;text-align:left;vertical-align:top}
textarea{width:100%;font:14px/1.4 monospace}pre{background:#f4f4f4;padding:1rem;overflow:auto}</style>
<h1>[[title]]</h1><p>[[description]] <a href="openapi.json">openapi.json</a></p>
<h2>Inputs</h2><table><tr><th>name<th>datatype<th>shape (-1 is any size)[[inputs]]</table>
<h2>Pages</h2><table>[[rows]]</table>
<h2><label for="body">Try <code>POST /invocations</code></label></h2>
<textarea id="body" rows="12">[[example]]</textarea><p><button id="send">Send</button></p><pre id="answer"></pre>
<script>document.getElementById("send").onclick=async()=>{const answer=await fetch("invocations",{method:"POST",
headers:{"Content-Type":"application/json"},body:document.getElementById("body").value});
document.getElementById("answer").textContent=answer.status+" "+await answer.text()}</script></html>
"""
