"""Plain data as a schema's model, and what is said where it does not fit: in its place, never the value."""

from __future__ import annotations

import inspect
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from monitor import words
from monitor.config.document import Document, Steps
from monitor.config.texts import explained

Model = TypeVar("Model", bound=BaseModel)

MOST_MISTAKES = 1000
"""Who has more of them has written something else than a configuration; the first are told."""


def fitted(model: type[Model], found: Document) -> Model | None:
    """The data as the model's; what does not fit goes to the mistakes."""
    if found.data is None and found.mistakes:
        return None
    if not isinstance(found.data, dict):
        found.mistake((), "must be a map of `key: value`")
        return None
    # `poll:` with everything below it commented out means the defaults.
    given = {key: value for key, value in found.data.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        for one in error.errors(include_url=False)[: MOST_MISTAKES + 1]:
            path: Steps = tuple(one["loc"])
            at_key = path[-1:] == ("[key]",)
            path = path[:-1] if at_key else path
            text = explained(one)
            if one["type"] == "extra_forbidden":
                text, at_key = _unknown(model, path), True
            found.mistake(path, text, at_key=at_key)
        return None


def _unknown(root: type[BaseModel], path: Steps) -> str:
    name = str(path[-1])
    known = [field.alias or key for key, field in _model_at(root, path[:-1]).model_fields.items()]
    near = words.nearest(name, known)
    if near:
        return f"unknown key; did you mean `{near}`?"
    return f"unknown key; here belong: {', '.join(sorted(known))}"


def _model_at(root: type[BaseModel], path: Steps) -> type[BaseModel]:
    """The model at a path of the file."""
    model = root
    for step in path:
        if isinstance(step, str):
            found = next(f for key, f in model.model_fields.items() if (f.alias or key) == step)
            model = _model_in(found.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in typing.get_args(annotation) if (model := _model_in(part))), None)
