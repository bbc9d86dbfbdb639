"""The page ``/docs``: every route with its fields and answers, from the OpenAPI description, without outside links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gem_lightning.reporting.html import environment, style_sheet


def docs_page(openapi: dict[str, Any]) -> str:
    """Render an OpenAPI 3.1 description.

    Args:
        openapi: As ``FastAPI.openapi`` gives it.
    """
    template = environment(Path(__file__).parent / "templates").get_template("docs.html.jinja")
    schemas = openapi.get("components", {}).get("schemas", {})
    models = [
        {"name": name, "about": schema.get("description", ""), "fields": list(_fields(schema))}
        for name, schema in schemas.items()
        if schema.get("properties") and not name.startswith("Body_")
    ]
    return template.render(
        info=openapi["info"], routes=list(_routes(openapi, schemas)), models=models, style=style_sheet()
    )


def _routes(openapi: dict[str, Any], schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            bodies = operation.get("requestBody", {}).get("content", {})
            fields = [field for body in bodies.values() for field in _fields(_resolved(body["schema"], schemas))]
            answers = [
                {
                    "status": status,
                    "about": answer.get("description", ""),
                    "types": ", ".join(answer.get("content", {})),
                    "schema": _first_schema(answer),
                }
                for status, answer in operation["responses"].items()
            ]
            about = operation.get("description", operation.get("summary", ""))
            yield {"path": path, "method": method.upper(), "about": about, "fields": fields, "answers": answers}


def _first_schema(answer: dict[str, Any]) -> str:
    for body in answer.get("content", {}).values():
        if "schema" in body:
            return _kind(body["schema"])
    return ""


def _fields(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        about = field.get("description", "")
        default = field.get("default")
        yield {"name": name, "kind": _kind(field), "required": name in required, "default": default, "about": about}


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    return schemas.get(_kind(schema), schema) if "$ref" in schema else schema


def _kind(schema: dict[str, Any]) -> str:
    """A type as readers write it: ``list of Finding``, ``number or null``."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_kind(schema['items'])}"
    if schema.get("contentMediaType") or schema.get("format") == "binary":
        return "file"
    return str(schema.get("type", "any"))
