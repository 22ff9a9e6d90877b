"""docs/openapi.yaml as tests use it: what it says of an answer, and whether an answer is like that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

PATH = Path(__file__).parent.parent / "docs/openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})

_REGISTRY: Registry[Any] = Registry().with_resource("urn:document", DRAFT202012.create_resource(DOCUMENT))


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` points at, with what stands beside it; whatever is no reference as it is."""
    if "$ref" not in node:
        return node
    target: Any = DOCUMENT
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part.replace("~1", "/").replace("~0", "~")]
    return resolved(target) | {name: value for name, value in node.items() if name != "$ref"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every path, method and operation."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [resolved(one) for one in operation.get("parameters", [])]


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Of a schema that stands in the document: its references are the document's."""
    inside = _rebased(schema)
    return Draft202012Validator(inside, registry=_REGISTRY, format_checker=jsonschema.FormatChecker())


def _rebased(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: f"urn:document{value}" if name == "$ref" else _rebased(value)
            for name, value in node.items()
        }
    return [_rebased(one) for one in node] if isinstance(node, list) else node


def declared(path: str, method: str, code: int, content_type: str) -> dict[str, Any]:
    """The schema of an answer; AssertionError when the document knows no such answer."""
    responses = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(code) in responses, f"{method} {path} answers {code}, which is not in {PATH.name}"
    contents = resolved(responses[str(code)])["content"]
    plain = content_type.partition(";")[0].strip()
    assert plain in contents, f"{method} {path} answers {code} as {plain}, which is not in {PATH.name}"
    schema: dict[str, Any] = contents[plain]["schema"]
    return schema


def properties() -> Iterator[tuple[int, str, str, bool]]:
    """Every property of every object of the schemas: the object's identity, where it stands, its name, and if it may be null."""
    for name, schema in SCHEMAS.items():
        for where, node in _nodes(schema, name):
            for one, inner in node.get("properties", {}).items():
                yield id(node), where, one, validator(inner).is_valid(None)


def _nodes(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield where, node
        for name, value in node.items():
            yield from _nodes(value, f"{where}.{name}" if name not in {"properties", "items"} else where)
    elif isinstance(node, list):
        for one in node:
            yield from _nodes(one, where)


def visited(schema: dict[str, Any], value: Any) -> Iterator[tuple[int, str, bool]]:
    """Which properties a valid answer has: their object's identity, their name, and whether they are null in it."""
    found = schema
    while "$ref" in found:
        found = _target(found["$ref"])
    if "anyOf" in found:
        for branch in found["anyOf"]:
            if validator(branch).is_valid(value):
                yield from visited(branch, value)
        return
    if isinstance(value, dict):
        for name, inner in found.get("properties", {}).items():
            if name in value:
                yield id(found), name, value[name] is None
                yield from visited(inner, value[name])
    elif isinstance(value, list):
        for one in value:
            yield from visited(found.get("items", {}), one)


def _target(reference: str) -> dict[str, Any]:
    target: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        target = target[part.replace("~1", "/").replace("~0", "~")]
    found: dict[str, Any] = target
    return found
