"""What is said of a value that does not fit the schema, in our words: never the value, which may be a secret."""

from __future__ import annotations

from typing import Any

_TEXTS: dict[str, str] = {
    "missing": "missing",
    "string_type": "must be text: put it in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "list_type": "must be a list: one `- ` for each",
    "dict_type": "must be a map of `name: value`",
    "model_type": "must be a map of `key: value`",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must be 1 to 64 letters, digits, `_`, `.` or `-`",
    "string_unicode": "must be text in UTF-8",
}

OTHERWISE = "not what belongs here"
"""For what no file is known to lead to: pydantic's own texts may quote the value."""


def explained(error: Any) -> str:
    """What is wrong by a validation error, without the value."""
    kind, context = error["type"], error.get("ctx", {})
    match kind:
        case "ours":
            return str(context["text"])
        case "greater_than_equal":
            return f"must be at least {context['ge']:,.10g}"
        case "greater_than":
            return f"must be more than {context['gt']:,.10g}"
        case "less_than_equal":
            return f"must be at most {context['le']:,.10g}"
        case "too_long":
            return f"more than {context['max_length']}"
        case "string_too_long":
            return f"longer than {context['max_length']} characters"
        case _:
            return _TEXTS.get(kind, OTHERWISE)
