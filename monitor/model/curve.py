"""A curve of calls completed over time, packed: thousands of batches have two each."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

_POINT = struct.Struct("<II")


class Point(NamedTuple):
    """How many calls were completed at which instant, or after which time. Whole seconds; the curve says since when."""

    at: int
    completed: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Points, the oldest first: 8 bytes each, where two Python numbers and their tuple take 120."""

    packed: bytes = b""

    __pydantic_config__: ClassVar = {
        "ser_json_bytes": "base64",
        "val_json_bytes": "base64",
    }  # the state file's JSON

    def __post_init__(self) -> None:
        if len(self.packed) % _POINT.size:
            raise ValueError("a curve is whole points")

    @classmethod
    def of(cls, points: Iterable[tuple[float, int]]) -> Self:
        """The curve through these points."""
        return cls(b"".join([_POINT.pack(_second(at), completed) for at, completed in points]))

    def then(self, at: float, completed: int) -> Curve:
        """The curve with one more point at its end. Seconds are rounded down: nothing lies in the future."""
        return Curve(self.packed + _POINT.pack(_second(at), completed))

    def kept(self, places: Iterable[int]) -> Curve:
        """The curve of its points at these places alone."""
        packed, size = self.packed, _POINT.size
        return Curve(b"".join([packed[place * size : (place + 1) * size] for place in places]))

    def first(self, count: int) -> Curve:
        """The curve of its first points."""
        return Curve(self.packed[: count * _POINT.size])

    def columns(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The seconds of all points, and their calls."""
        numbers = struct.unpack(f"<{len(self.packed) // 4}I", self.packed)
        return numbers[::2], numbers[1::2]

    def __len__(self) -> int:
        return len(self.packed) // _POINT.size

    def __getitem__(self, index: int) -> Point:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(index)
        at, completed = _POINT.unpack_from(self.packed, index % count * _POINT.size)
        return Point(at, completed)

    def __iter__(self) -> Iterator[Point]:
        return map(Point._make, _POINT.iter_unpack(self.packed))


def _second(at: float) -> int:
    """From 1970 to 2106, where it is an instant: whatever else somebody's clock says is one of the two."""
    return min(max(int(at), 0), 0xFFFFFFFF)


NO_CURVE = Curve()
