"""The text of a scrape, in pieces: byte for byte what the library makes of the same families, in a tenth of its time.

With 10,000 batches there are 300,000 samples, 50 MB, which the library makes one by one and hands over as a whole.
So what there is of each batch is written here. What stands around label values and numbers (names, types, quotes)
is the library's: it is asked for one sample of each kind, and so it knows the formats, and nothing here does.
What is few it writes altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from zlib import MAX_WBITS

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

try:
    from isal.isal_zlib import compressobj
except ImportError:  # it has no wheel for this machine
    from zlib import compressobj  # type: ignore[assignment]  # its arguments have other names

from monitor.metrics.batches import BATCH, BATCH_FAMILIES, BatchGauge, BatchGauges, Statement
from monitor.metrics.families import few
from monitor.model import Snapshot, Status

Encoder = Callable[[Collector], bytes]
"""One of the library's: the whole text of what is collected, in one format."""

PIECE = 128 * 1024
"""Bytes of a piece, at least; only the last is smaller."""

_BATCHES = 100
"""Batches of which a family is written in one go: less than a quarter of a megabyte."""

_HOLE = "\0"
"""Stands for a label value in what the library is asked for."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ZERO = "0.0\n"
"""Stands for a number, and the end of its line."""

_KNOWN = 64
"""Sets of values of which a family's texts are kept: enough for all states."""


class Collected(Collector):
    """What the library's encoders ask for."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The library's question."""
        return self._metrics


def exposition(snapshot: Snapshot, ours: Collector, encode: Encoder, *, compressed: bool) -> Iterator[bytes]:
    """All families of the snapshot and all that `ours` collects, in pieces, gzipped or as they are.

    Each piece takes a few milliseconds: nothing for the event loop.
    """
    texts = _texts(snapshot, ours, encode)
    return _gathered(_gzipped(texts) if compressed else texts)


def _gathered(texts: Iterable[bytes]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for text in texts:
        gathered.append(text)
        size += len(text)
        if size >= PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def _gzipped(texts: Iterable[bytes]) -> Iterator[bytes]:
    # Level 1: exposition text is so repetitive that more costs time and saves next to nothing.
    member = compressobj(1, wbits=16 + MAX_WBITS)
    # Not text by text: each call lets go of the interpreter, and who has it back before the loop has woken up keeps
    # the loop waiting anew: /-/healthy waited 36 ms instead of 17 (docs/decisions/0009).
    for text in _gathered(texts):
        yield member.compress(text)
    yield member.flush()


def _texts(snapshot: Snapshot, ours: Collector, encode: Encoder) -> Iterator[bytes]:
    subjects = _Subjects(snapshot.batches, encode)
    for family in BATCH_FAMILIES:
        if isinstance(family, BatchGauge):
            texts = _gauge(family, subjects, encode)
        elif isinstance(family, BatchGauges):
            texts = _gauges(family, subjects, encode)
        else:
            texts = _statement(family, snapshot, encode)
        for text in texts:
            yield text.encode(errors="replace")  # a lone surrogate has no UTF-8
    yield encode(Collected(chain(few(snapshot), ours.collect())))


class _Subjects:
    """The label values of each batch, as text: of its account and agent, one text for all its batches, and its id."""

    def __init__(self, batches: tuple[Status, ...], encode: Encoder) -> None:
        metric = Metric("any", "", "gauge")
        metric.add_sample("any", dict.fromkeys(BATCH, _HOLE), 0)
        _, [(_, before_agent, before_id, _)] = _framed(metric, encode)
        texts: dict[tuple[str, str], str] = {}
        self._agents: list[str] = []
        self._ids: list[str] = []
        self._batches = batches
        for status in batches:
            account, agent = status.target.account, status.key.agent_id
            text = texts.get((account, agent))
            if text is None:
                text = f"{_escaped(account)}{before_agent}{_escaped(agent)}{before_id}"
                texts[account, agent] = text
            self._agents.append(text)
            self._ids.append(_escaped(status.key.batch_id))

    def parts(self) -> Iterator[Iterable[tuple[str, str, Status]]]:
        """All of them with their Status, some at a time."""
        for start in range(0, len(self._batches), _BATCHES):
            part = slice(start, start + _BATCHES)
            yield zip(self._agents[part], self._ids[part], self._batches[part], strict=True)


def _gauge(family: BatchGauge, subjects: _Subjects, encode: Encoder) -> Iterator[str]:
    metric = family.empty()
    metric.add_sample(family.name, dict.fromkeys(BATCH, _HOLE), 0)
    head, [(before, _, _, after)] = _framed(metric, encode)
    yield head
    after, value_of = after.removesuffix(_ZERO), family.value
    for part in subjects.parts():
        yield "".join(
            [
                f"{before}{agent}{batch}{after}{number(value)}\n"
                for agent, batch, status in part
                if (value := value_of(status)) is not None
            ]
        )


def _gauges(family: BatchGauges, subjects: _Subjects, encode: Encoder) -> Iterator[str]:
    metric = family.empty()
    for of in family.of:
        metric.add_sample(family.name, dict.fromkeys(BATCH, _HOLE) | {family.label: of}, 0)
    head, frames = _framed(metric, encode)
    yield head
    before = frames[0][0]
    own = [frame[-1].removesuffix(_ZERO) for frame in frames]
    then = [f"\n{before}"] * (len(own) - 1) + ["\n"]
    known: dict[tuple[float, ...], list[str]] = {}
    for part in subjects.parts():
        texts = []
        for agent, batch, status in part:
            values = family.values(status)
            if values is None:
                continue
            around = known.get(values)
            if around is None:
                samples = zip(own, values, then, strict=True)
                around = [before, *[f"{label}{number(value)}{end}" for label, value, end in samples]]
                if len(known) < _KNOWN:
                    known[values] = around
            texts.append((agent + batch).join(around))
        yield "".join(texts)


def _statement(family: Statement, snapshot: Snapshot, encode: Encoder) -> Iterator[str]:
    metric = family.empty()
    head, _ = _framed(metric, encode)
    yield head
    templates: dict[tuple[str, ...], tuple[list[str], str]] = {}
    said = family.labels(snapshot)
    while some := list(islice(said, _BATCHES)):
        lines = []
        for labels in some:
            found = templates.get(tuple(labels))
            if found is None:
                metric.samples.clear()
                metric.add_sample(family.sample, dict.fromkeys(labels, _HOLE), 1)
                _, [frame] = _framed(metric, encode)
                found = sorted(labels), "%s".join([text.replace("%", "%%") for text in frame])
                templates[tuple(labels)] = found
            names, template = found
            values = [labels[name] for name in names]
            if not _plain("".join(values)):
                values = [_escaped(value) for value in values]
            lines.append(template % tuple(values))
        yield "".join(lines)


def _framed(metric: Metric, encode: Encoder) -> tuple[str, list[list[str]]]:
    """The head of a family in this format; for each of its samples, what stands around the holes."""
    lines = encode(Collected([metric])).decode().removesuffix("# EOF\n").splitlines(keepends=True)
    head = len(lines) - len(metric.samples)
    return "".join(lines[:head]), [line.split(_HOLE) for line in lines[head:]]


def _plain(value: str) -> bool:
    return '"' not in value and "\\" not in value and "\n" not in value


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float | datetime) -> str:
    """What floatToGoString makes of a number, or of an instant's Unix seconds. It need not be asked for what is common."""
    if type(value) is int and 0 <= value < 1_000_000:
        return f"{value}.0"
    if isinstance(value, datetime):
        since = value - _EPOCH
        micros = (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
        digits = str(micros).rstrip("0")
        # There no two microseconds share a double, so these are the digits that it finds.
        if 10**15 < micros < 2**32 * 10**6 and len(digits) > 1:
            return f"{digits[0]}.{digits[1:]}e+09"
        value = value.timestamp()
    if 0 <= value < 1_000_000:
        return repr(float(value))
    return str(floatToGoString(value))  # type: ignore[no-untyped-call] # a gap in the library's types
