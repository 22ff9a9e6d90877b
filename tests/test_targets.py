"""What a new configuration adds, keeps and drops, and when it is not believed."""

from __future__ import annotations

import pytest
from samples import batch_key

from monitor.model import Target
from monitor.targets import TooManyDroppedError, Watch, plan


def watches(*numbers):
    return {batch_key(n): Watch(Target("main", batch_key(n), name=f"new-{n}")) for n in numbers}


def keys(*numbers):
    return {batch_key(n) for n in numbers}


def test_what_is_new_is_added_what_stays_is_kept_with_its_new_settings_and_the_rest_is_dropped():
    found = plan(keys(1, 2, 3), watches(2, 3, 4), asked_for=False)
    assert {watch.key for watch in found.added} == keys(4)
    assert {watch.target.name for watch in found.kept} == {"new-2", "new-3"}
    assert set(found.dropped) == keys(1)


@pytest.mark.parametrize(
    ("watched", "wanted", "refused"),
    [
        ((1, 2, 3, 4), (1, 2), False),
        ((1, 2, 3, 4), (1,), True),
        ((1,), (), True),
        ((), (), False),
        ((), (1,), False),
    ],
)
def test_a_file_alone_never_drops_more_than_half(watched, wanted, refused):
    if refused:
        dropped = len(watched) - len(wanted)
        with pytest.raises(
            TooManyDroppedError, match=f"would drop {dropped} of {len(watched)} watched batches"
        ):
            plan(keys(*watched), watches(*wanted), asked_for=False)
    else:
        plan(keys(*watched), watches(*wanted), asked_for=False)
    assert len(plan(keys(*watched), watches(*wanted), asked_for=True).dropped) == len(
        set(watched) - set(wanted)
    )
