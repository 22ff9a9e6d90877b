"""Nothing is lost: a daemon is killed again and again, between receivers that misbehave.

Slow (three minutes, or as long as one likes), so marked `chaos`: `make test-chaos`. Everything is on loopback.
CHAOS_ROUNDS: how many rounds; CHAOS_KILLS: kills in each; CHAOS_SEED: the same chances again, as far as
real processes let them be the same.
"""

from __future__ import annotations

import os
import random

import pytest
from chaos.world import World, deck, table

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))
KILLS = int(os.environ.get("CHAOS_KILLS", "16"))


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
        if rounds[-1].wrong:
            break
    with capsys.disabled():
        print(f"\n{table(rounds)}\nCHAOS_SEED={seed}")
        for one in rounds:
            for twice in one.verdict.other_key if one.disk_trouble else ():
                print(f"after disk trouble: {twice}")
    wrong = rounds[-1].wrong
    assert not wrong, f"CHAOS_SEED={seed}, round {len(rounds) - 1}, files in {tmp_path}:\n" + "\n".join(
        wrong[:10]
    )
