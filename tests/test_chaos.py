"""Nothing is lost: a daemon is killed again and again, between receivers that misbehave.

Slow (three minutes, or as long as one likes), so marked `chaos`: `make test-chaos`. Everything is on loopback.
CHAOS_ROUNDS: how many rounds; CHAOS_KILLS: kills in each; CHAOS_SEED: the same chances again, as far as
real processes let them be the same. The verdict itself has quick tests, here as well.
"""

from __future__ import annotations

import json
import os
import random
import sys
from datetime import timedelta

import pytest
from chaos.receivers import Mood, Post
from chaos.truth import Expected, Life, Row
from chaos.verdict import judge
from chaos.world import World, deck, table
from samples import NOW

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "2"))
KILLS = int(os.environ.get("CHAOS_KILLS", "24"))


@pytest.mark.chaos
@pytest.mark.timeout(60 + ROUNDS * (150 + 15 * KILLS))
async def test_nothing_is_lost_whenever_the_daemon_is_killed(tmp_path, capsys):
    seed = os.environ.get("CHAOS_SEED") or str(random.SystemRandom().randrange(10**6))
    cards = deck(random.Random(seed))
    rounds = []
    for number in range(ROUNDS):
        folder = tmp_path / f"round-{number}"
        folder.mkdir()
        rounds.append(await World(folder, f"{seed}/{number}", cards).play(KILLS))
        (tmp_path / "table.txt").write_text(table(rounds))
        if rounds[-1].wrong:
            break
    excused = [one for made in rounds if made.disk_trouble for one in made.verdict.other_key]
    with capsys.disabled():
        lines = [table(rounds), f"CHAOS_SEED={seed}", *(f"after disk trouble: {one}" for one in excused)]
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    where = f"CHAOS_SEED={seed}, round {len(rounds) - 1}, files in {tmp_path}"
    assert not rounds[-1].wrong, "\n".join([where, *rounds[-1].wrong[:20]])


# The verdict


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def labels(name: str) -> tuple[tuple[str, str], ...]:
    return (("account", "main"), ("alertname", name), ("batch_id", "b1"))


def row(kind: str, at: float, started: float = 0, name: str = "BatchStalled", by: str | None = None) -> Row:
    return Row(
        id=f"{name}-{kind}-{at}",
        receiver="chat",
        kind=kind,
        labels=labels(name),
        starts_at=NOW + seconds(started),
        created_at=NOW + seconds(at),
        one_shot=name == "BatchEnded",
        superseded_by=by,
        settled=True,
        dropped=False,
    )


def post(
    at: float, status: str, started: float = 0, name: str = "BatchStalled", key: str = "", summary: str = ""
) -> Post:
    alert = {
        "status": status,
        "labels": dict(labels(name)),
        "annotations": {"summary": summary},
        "startsAt": (NOW + seconds(started)).isoformat(),
        "endsAt": (NOW + seconds(100 if status == "firing" else at - 0.1)).isoformat(),
    }
    body = json.dumps({"alerts": [alert]}).encode()
    return Post(NOW + seconds(at), "/", key or f"key of {at}", body, Mood.UP, NOW)


def states(*posts: Post) -> list[Post]:
    return [
        Post(one.at, one.path, None, json.dumps(json.loads(one.body)["alerts"]).encode(), one.mood, NOW)
        for one in posts
    ]


BELATED = "was over before it was told (fired …): it stood still"
FIRED, OVER = row("firing", 0), row("resolved", 10)
LIVES = [Life(NOW, NOW, NOW + seconds(60), "calm")]


def wrong(posts, rows, ends=(), stalls=None, *, state=False) -> list[str]:
    happened = Expected("b1", ("BatchStalled",), NOW, NOW + seconds(60), must=False)
    stalls = [happened] if stalls is None else stalls
    found = judge("chat", posts, rows, ends, stalls, LIVES, state=state)
    kinds = ("lost", "out_of_order", "untrue", "left_open", "other_key")
    return [kind for kind in kinds for _ in getattr(found, kind)]


@pytest.mark.parametrize(
    ("posts", "rows", "expected"),
    [
        ([post(1, "firing"), post(11, "resolved")], [FIRED, OVER], []),
        ([post(1, "firing", key="k"), post(2, "firing", key="k"), post(11, "resolved")], [FIRED, OVER], []),
        ([post(11, "resolved", summary=BELATED)], [FIRED, OVER], []),
        ([post(1, "firing"), post(5, "firing"), post(11, "resolved")], [FIRED, row("reminder", 4), OVER], []),
        ([post(1, "firing")], [FIRED, OVER], ["lost", "left_open"]),
        ([], [FIRED, OVER], ["lost", "lost"]),
        ([post(11, "resolved")], [FIRED, OVER], ["lost", "out_of_order"]),
        (
            [post(11, "resolved", summary=BELATED), post(12, "firing")],
            [FIRED, OVER],
            ["out_of_order", "left_open", "other_key"],
        ),
        ([post(1, "firing"), post(2, "firing"), post(11, "resolved")], [FIRED, OVER], ["other_key"]),
        ([post(1, "firing"), post(11, "resolved"), post(12, "resolved")], [FIRED, OVER], ["other_key"]),
        ([post(1, "firing", key="k"), post(11, "resolved", key="k")], [FIRED, OVER], ["lost", "untrue", "left_open"]),
        (
            [post(1, "firing"), post(21, "firing", 20), post(31, "resolved", 20)],
            [FIRED, OVER, row("firing", 20, 20), row("resolved", 30, 20)],
            ["lost", "out_of_order"],
        ),
        ([post(1, "firing"), post(11, "resolved")], [], ["untrue"]),  # never committed
    ],
)  # fmt: skip
def test_the_verdict_on_messages(posts, rows, expected):
    assert wrong(posts, rows) == expected


SUPERSEDED = [
    row("firing", 0),
    row("resolved", 10, by="BatchEnded"),
    row("firing", 10, 10, name="BatchEnded"),
]


def test_what_was_superseded_is_lost_unless_what_superseded_it_was_told():
    ended = post(11, "firing", 10, name="BatchEnded")
    assert wrong([ended], SUPERSEDED) == []
    assert wrong([], SUPERSEDED) == ["lost"] * 3
    assert wrong([post(1, "firing"), ended], SUPERSEDED) == ["lost", "left_open"]


@pytest.mark.parametrize(
    ("posts", "expected"),
    [
        ([post(1, "firing"), post(2, "firing"), post(11, "resolved"), post(12, "resolved")], []),
        ([post(11, "resolved")], ["lost", "out_of_order"]),
        ([post(1, "firing")], ["lost", "left_open"]),
        ([post(1, "firing"), post(11, "resolved"), post(12, "firing")], ["out_of_order", "left_open"]),
    ],
)
def test_the_verdict_on_what_alertmanager_sees(posts, expected):
    assert wrong(states(*posts), [FIRED, OVER], state=True) == expected


def test_an_end_is_told_once_and_by_its_name():
    end = Expected("b1", ("BatchEnded",), NOW, NOW + seconds(60), must=True)
    told, rows = post(11, "firing", 10, name="BatchEnded"), [row("firing", 10, 10, name="BatchEnded")]
    again = [*rows, row("firing", 20, 20, name="BatchEnded")]
    assert wrong([told], rows, [end]) == []
    assert wrong([], [], [end]) == ["lost"]
    assert wrong([told, post(21, "firing", 20, name="BatchEnded")], again, [end]) == ["other_key"]
    other = Expected("b1", ("BatchEndedIncomplete",), NOW, NOW + seconds(60), must=True)
    assert wrong([told], rows, [other]) == ["untrue"]


def test_a_stall_that_was_held_is_told_and_none_that_was_not():
    held = Expected("b1", ("BatchStalled",), NOW, NOW + seconds(30), must=True)
    told = [post(1, "firing"), post(11, "resolved")]
    assert wrong(told, [FIRED, OVER], stalls=[held]) == []
    assert wrong([], [], stalls=[held]) == ["lost"]
    assert wrong(told, [FIRED, OVER], stalls=[]) == ["untrue"]
