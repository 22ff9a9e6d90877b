"""What is to be expected of a batch, in the words that every view has."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from samples import NOW, observation, status

from monitor.model import State
from monitor.outlook import outlook

CLOSES = NOW + timedelta(hours=2)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("end", "window_end", "likely", "span", "said"),
    [
        (CLOSES + 17 * MINUTE, CLOSES, 120, (80, 160), "17 min late, about 120 calls will be missed"),
        (CLOSES + 17 * MINUTE, CLOSES, 1, (0, 3), "17 min late, about 1 call will be missed"),
        (CLOSES - 40 * MINUTE, CLOSES, 0, (0, 0), "40 min to spare"),
        (CLOSES - 4 * MINUTE, CLOSES, 0, (0, 35), "4 min to spare, up to 35 calls may be missed"),
        (CLOSES, CLOSES, 0, (0, 0), "0 s to spare"),
        (None, CLOSES, 306, (306, 306), "about 306 calls will be missed"),  # it stands still
        (NOW + 130 * MINUTE, None, None, None, "done in 2 h 10 min"),
        (None, None, None, None, None),
        (None, CLOSES, None, None, None),
    ],
)
def test_the_outlook(end, window_end, likely, span, said):
    one = status(observation(window_end=window_end))
    assessment = replace(
        one.assessment, estimated_end=end, projected_missed=likely, projected_missed_range=span
    )
    assert outlook(replace(one, assessment=assessment)) == said


@pytest.mark.parametrize("state", [State.ENDED, State.INCOMPLETE, State.GONE, State.OVERDUE])
def test_what_is_over_has_none(state):
    one = status()
    assessment = replace(one.assessment, state=state, estimated_end=CLOSES, projected_missed=5)
    assert outlook(replace(one, assessment=assessment)) is None


def test_what_was_never_seen_has_none():
    assert outlook(replace(status(), progress=None)) is None
