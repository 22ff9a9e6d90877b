"""What is to be expected of a batch, in one clause: when it will be done, beside when its window closes.

Pure text: the numbers are pace's, read from the Assessment.
"""

from __future__ import annotations

from datetime import datetime

from monitor import words
from monitor.model import Observation, State, Status

_OVER = frozenset({State.UNKNOWN, State.INCOMPLETE, State.ENDED, State.GONE, State.OVERDUE})


def outlook(status: Status) -> str | None:
    """`17 min late, about 120 calls will be missed`, `40 min to spare`. None: nothing can be foreseen.

    As of the last good observation: like every number of a batch it moves when the batch is looked at.
    """
    if status.progress is None or status.assessment.state in _OVER:
        return None
    seen, end = status.progress.last, status.assessment.estimated_end
    clauses = [_when(seen, end), _missed(status)]
    return ", ".join(clause for clause in clauses if clause) or None


def _when(seen: Observation, end: datetime | None) -> str | None:
    if end is None:
        return None
    if seen.window_end is None:
        return f"done in {words.duration(end - seen.at)}"
    if end > seen.window_end:
        return f"{words.duration(end - seen.window_end)} late"
    return f"{words.duration(seen.window_end - end)} to spare"


def _missed(status: Status) -> str | None:
    likely, span = status.assessment.projected_missed, status.assessment.projected_missed_range
    if likely:
        return f"about {words.calls(likely)} will be missed"
    if span is not None and span[1]:
        return f"up to {words.calls(span[1])} may be missed"
    return None
