"""YAML to plain data that still knows where each value stands, so that a mistake can be pointed at.

YAML only: which keys exist, and what they mean, is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Steps = tuple[str | int, ...]
"""The way to a value: keys and list positions."""

NODE_LIMIT = 100_000
"""Values of a document, aliases followed. No real configuration comes near; "billion laughs" goes beyond."""

DEPTH_LIMIT = 50
"""Nested maps and lists."""

_TOO_DEEP = f"nested deeper than {DEPTH_LIMIT} levels"

_MERGE = "tag:yaml.org,2002:merge"
_PLAIN_STEP = re.compile(r"[A-Za-z0-9_-]{1,19}|[A-Za-z_-]{20,32}")  # long ones with digits are secrets
_WORD = re.compile(r"[A-Za-z_-]{0,32}")
_WORDS = re.compile(r"(?=.{1,32}$)[A-Za-z_-]+(?: [A-Za-z_-]+)+")
_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """Something wrong in the file. Line and column count from 1."""

    line: int
    column: int
    path: str
    text: str


@dataclass(slots=True)
class Document:
    """The data, where everything stands, and what was wrong already."""

    data: Any = None
    values: dict[Steps, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Steps, tuple[int, int]] = field(default_factory=dict)
    from_environment: dict[Steps, str] = field(default_factory=dict)  # and the text with the ${NAME} in it
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, path: Steps, text: str, *, at_key: bool = False) -> None:
        """Note a mistake at this path, or at the nearest place above it that is in the file."""
        known = self.keys if at_key else self.values
        place = path
        while place and place not in known:
            place = place[:-1]
        line, column = known.get(place) or self.values.get(place) or (1, 1)
        self.mistakes.append(Mistake(line, column, written(path), text))

    def line(self, path: Steps) -> int:
        """Where a value stands that is in the file."""
        return self.values[path][0]


def written(path: Steps) -> str:
    """`accounts[0].batches[1].batch_id`; of a key that is no word, the word it begins with.

    The rest may be a secret: `{api_key:hunter2}`, without the blank, is a key to YAML, and so is `{https://…}`.
    """
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _PLAIN_STEP.fullmatch(step) else f'"{_beginning(step)}"'
            text += f".{name}" if text else name
    return text


def _beginning(step: str) -> str:
    if not step or _WORDS.fullmatch(step):  # no secret has blanks in it
        return step
    word = _WORD.match(step)
    return f"{word[0] if word else ''}…"


def parse(
    content: bytes, environ: Mapping[str, str] | None, *, example: str = "config.example.yaml"
) -> Document:
    """The one document in the file. What is wrong is in its `mistakes`; nothing is raised.

    `environ` None: a format that is not ours, in which `${NAME}` is no variable.
    """
    document = Document()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        document.mistakes.append(Mistake(line, 1, "", "not UTF-8: save the file as UTF-8"))
        return document
    try:
        _check_depth(text)
        loader = yaml.CSafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                document.mistakes.append(
                    Mistake(1, 1, "", f"the file is empty: {example} shows what belongs into it")
                )
            else:
                document.data = _Reader(document, loader, environ).read(node, (), 0)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document.mistakes.append(Mistake(*place, "", _problem(error)))
    except yaml.YAMLError as error:  # a character that YAML does not allow
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        document.mistakes.append(
            Mistake(line, 1, "", "not YAML: a control character that YAML does not allow")
        )
    return document


def _check_depth(text: str) -> None:
    """Refuse what is nested too deep before it is composed: libyaml's composer recurses in C, and crashes."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise _RefusedError(_TOO_DEEP, event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What PyYAML says, where that cannot quote the file."""
    problem = error.problem or "it cannot be read"
    if isinstance(error, _RefusedError):
        return problem
    if isinstance(error, yaml.constructor.ConstructorError):  # its texts quote tags: `secret: !hunter2`
        return "not YAML: a tag, or a sign with a meaning in YAML (`!`, `=`): put the value in quotes"
    if "found another document" in problem or "expected a single document" in (error.context or ""):
        return "a second document (`---`): put everything into one"
    return f"not YAML: {problem}"


class _RefusedError(yaml.MarkedYAMLError):
    """YAML, but not to be read. The text is the whole message."""

    def __init__(self, text: str, mark: Any) -> None:
        super().__init__(problem=text, problem_mark=mark)


class _Reader:
    """Walks the nodes of one document."""

    def __init__(self, document: Document, loader: Any, environ: Mapping[str, str] | None) -> None:
        self._document = document
        self._loader = loader
        self._environ = environ
        self._nodes = 0

    def read(self, node: yaml.Node, path: Steps, depth: int) -> Any:
        """The plain value of a node."""
        mark = node.start_mark
        self._count(1, depth, mark)
        self._document.values[path] = (mark.line + 1, mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, at), depth + 1) for at, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _count(self, nodes: int, depth: int, mark: Any) -> None:
        self._nodes += nodes
        if depth > DEPTH_LIMIT:  # by an alias to what it stands in
            raise _RefusedError(_TOO_DEEP, mark)
        if self._nodes > NODE_LIMIT:
            raise _RefusedError(f"more than {NODE_LIMIT:,} values", mark)

    def _mapping(self, node: yaml.MappingNode, path: Steps, depth: int) -> dict[str, Any]:
        own: dict[str, int] = {}
        for key, _ in node.value:
            name, mark = self._key(key), key.start_mark
            if name in own and key.tag != _MERGE:
                self._document.keys[(*path, name)] = (mark.line + 1, mark.column + 1)
                self._document.mistake((*path, name), f"there twice: first on line {own[name]}", at_key=True)
            own.setdefault(name, mark.line + 1)
        found = {}
        for key, value in self._merged(node, depth):
            name = self._key(key)
            self._document.keys[(*path, name)] = (key.start_mark.line + 1, key.start_mark.column + 1)
            found[name] = value
        return {name: self.read(value, (*path, name), depth + 1) for name, value in found.items()}

    def _merged(self, node: yaml.MappingNode, depth: int) -> list[tuple[yaml.Node, yaml.Node]]:
        """A map's keys after those that `<<: *defaults` brings: the later wins.

        PyYAML's own way changes the nodes (an alias to a map that merges would then seem to have keys twice)
        and copies without a limit.
        """
        brought, own = [], []
        for key, value in node.value:
            if key.tag != _MERGE:
                own.append((key, value))
                continue
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in reversed(sources):  # YAML: the first of a list wins
                if not isinstance(source, yaml.MappingNode):
                    raise _RefusedError("`<<` takes an alias to a map, or a list of such", source.start_mark)
                self._count(len(source.value), depth, source.start_mark)
                brought += self._merged(source, depth + 1)
        return [*brought, *own]

    def _key(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        raise _RefusedError("a key that is a list or a map", node.start_mark)

    def _scalar(self, node: yaml.Node, path: Steps) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return str(node.value)  # a date like 2026-99-99, or a tag that does not fit: `!!int ""`
        if not isinstance(value, str):
            return value
        return value if self._environ is None else self._expanded(value, path, self._environ)

    def _expanded(self, value: str, path: Steps, environ: Mapping[str, str]) -> str:
        """`${NAME}` is the environment's; `$$` is a dollar sign."""

        def replaced(match: re.Match[str]) -> str:
            if match[0] == "$$":
                return "$"
            name = match[1]
            if name is None:
                self._document.from_environment[path] = value  # meant to be: the only complaint
                self._document.mistake(path, "an unfinished ${…}: write ${NAME}, or $$ for a dollar sign")
                return ""
            self._document.from_environment[path] = value
            found = environ.get(name)
            if not found:
                state = "not set" if found is None else "empty"
                self._document.mistake(path, f"the environment variable {name} is {state}")
                return ""
            return found

        return _VARIABLE.sub(replaced, value)
