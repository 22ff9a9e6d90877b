"""PromQL in rules, dashboards and pages: parsed, and held against the metrics that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser

METRICS_PAGE = Path(__file__).parent.parent / "docs/metrics.md"  # test_metrics.py holds it against /metrics
OF_A_BATCH = {"account", "agent_id", "batch_id"}
OF_A_SCRAPE = {"job", "instance"}


def documented() -> dict[str, set[str] | None]:
    """The labels of every metric of docs/metrics.md; None: any, because the configuration adds some."""
    found: dict[str, set[str] | None] = {}
    rows = re.findall(
        r"^\| `(ultravox_\w+)` \| (\w+) \| (.*?) \|", METRICS_PAGE.read_text("utf-8"), re.MULTILINE
    )
    for name, kind, text in rows:
        labels = set(re.findall(r"`(\w+)`", text)) | (OF_A_BATCH if "the batch's" in text else set())
        wanted = None if "the configured ones" in text else labels | OF_A_SCRAPE
        if kind == "histogram":
            found |= {f"{name}_sum": wanted, f"{name}_count": wanted}
            found[f"{name}_bucket"] = labels | OF_A_SCRAPE | {"le"}
        else:
            found[name] = wanted
    return found


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Every metric that an expression names, with the labels by which it is chosen. ValueError: it is no PromQL."""
    waiting = [promql_parser.parse(expression)]
    while waiting:
        node = waiting.pop()
        vector = getattr(node, "vector_selector", node)
        if isinstance(vector, promql_parser.VectorSelector):
            yield vector.name or "", {matcher.name for matcher in vector.matchers.matchers}
        waiting += [getattr(node, part) for part in ("expr", "lhs", "rhs") if hasattr(node, part)]
        waiting += getattr(node, "args", ())


def mistakes(expression: str, *, recorded: frozenset[str] = frozenset()) -> list[str]:
    """What an expression asks for that there is not. `recorded`: names that recording rules add."""
    known, found = documented(), []
    for name, labels in selectors(expression):
        if name in recorded or name == "up" or name.startswith("process_"):
            continue
        wanted = known.get(name, set())
        if name not in known:
            found.append(f"no metric {name}")
        elif wanted is not None and labels - wanted:
            found.append(f"{name} has no label {', '.join(sorted(labels - wanted))}")
    return found


def fenced(page: Path, language: str) -> list[str]:
    """The blocks of a page in ```LANGUAGE fences."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def lines(page: Path, language: str) -> list[str]:
    """Their lines, without comments and empty ones."""
    return [
        line for block in fenced(page, language) for line in block.splitlines() if line and line[0] != "#"
    ]
