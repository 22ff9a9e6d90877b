"""What in docs/ is written from the code: the tables of states and failures, and how a state is found.

Each stands in its page between two comments, and is not edited by hand. `make docs` writes them;
tests/test_docs.py sees that the pages hold what would be written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from monitor import evaluate, glossary
from monitor.model import State

FOLDER = Path(__file__).parent.parent
PAGES = ("alerts.md", "architecture.md", "metrics.md")
_BLOCK = re.compile(r"<!-- make docs: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def written(text: str) -> str:
    """A page with every block as it is to be."""
    return _BLOCK.sub(
        lambda found: f"<!-- make docs: {found[1]} -->\n{BLOCKS[found[1]]()}\n<!-- end -->", text
    )


def states() -> str:
    """The table of states, in the order in which they are asked for."""
    rows = (f"| `{state.value}` | {when} | {glossary.STATES[state]} |" for state, when, _ in evaluate.STATES)
    return "\n".join(("| state | when | in plain words |", "| --- | --- | --- |", *rows))


def failures() -> str:
    """The table of reasons why a request to Ultravox failed."""
    rows = (f"| `{reason.value}` | {words} |" for reason, words in glossary.FAILURES.items())
    return "\n".join(("| reason | in plain words |", "| --- | --- |", *rows))


def questions() -> str:
    """The questions by which a state is found, as a Mermaid flowchart; the first that is answered yes decides."""
    *asked, (last, _, _) = evaluate.STATES
    lines = ["```mermaid", "flowchart TD"]
    for number, (state, when, _) in enumerate(asked):
        lines.append(f'  q{number}["{_escaped(when)}?"] -- yes --> {_node(state)}')
    steps = [f"q{number}" for number in range(len(asked))]
    lines.append("  " + " -- no --> ".join((*steps, _node(last))))
    return "\n".join((*lines, "```"))


def _node(state: State) -> str:
    return f'{state.value}(["<b>{state.value}</b><br>{_escaped(glossary.STATES[state])}"])'


def _escaped(text: str) -> str:
    return text.replace("<", "#lt;").replace(">", "#gt;").replace('"', "#quot;")


BLOCKS: dict[str, Callable[[], str]] = {"states": states, "failures": failures, "questions": questions}
