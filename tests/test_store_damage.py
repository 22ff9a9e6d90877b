"""Whatever the disk has done to the state file: it opens whole, or is set aside, and is never believed in part.

Every page of a real file is damaged in every way, and the log beside it, too. The quick sweep is in every run; the wide
one, with other chances each time, is marked `days`.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from receivers import message, notification
from samples import NOW, batch_key, observation, status

from monitor.model import Mute
from monitor.store import AccountRecord, BatchRecord, Contents, StoreError
from monitor.store.file import RETELL_ENDS, StateFile

PAGE = 4096
LOST = Contents(ends_since=NOW - RETELL_ENDS)


def zeros(content: bytearray, at: int, _: random.Random) -> None:
    content[at : at + PAGE] = bytes(PAGE)


def noise(content: bytearray, at: int, chance: random.Random) -> None:
    content[at : at + PAGE] = chance.randbytes(PAGE)


def second_half(content: bytearray, at: int, chance: random.Random) -> None:
    content[at + PAGE // 2 : at + PAGE] = chance.randbytes(PAGE // 2)


def a_bit(content: bytearray, at: int, chance: random.Random) -> None:
    content[at + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)


def a_bit_of_its_head(content: bytearray, at: int, chance: random.Random) -> None:
    content[at + chance.randrange(12)] ^= 1 << chance.randrange(8)


def eight_bits(content: bytearray, at: int, chance: random.Random) -> None:
    for _ in range(8):
        a_bit(content, at, chance)


def another_page(content: bytearray, at: int, chance: random.Random) -> None:
    other = chance.randrange(len(content) // PAGE) * PAGE
    content[at : at + PAGE] = content[other : other + PAGE]


def cut(content: bytearray, at: int, chance: random.Random) -> None:
    del content[at + chance.randrange(PAGE) :]


DAMAGES = (zeros, noise, second_half, a_bit, a_bit_of_its_head, eight_bits, another_page, cut)
BY_BITS = {a_bit, eight_bits, another_page}
"""These may turn a record into another that is as good as it: a digit of a count, a letter of a name."""


def change(count: int, long: int) -> dict:
    """Something of everything, `count` times; texts up to `long`, so that records reach over several pages."""
    rows = [
        notification(
            n, batch_id=f"b{n}", delivered_at=NOW if n % 3 else None, last_error="x" * (n * 37 % long)
        )
        for n in range(count)
    ]
    return {
        "batches": [BatchRecord.of(status(observation(), key=batch_key(n))) for n in range(count)],
        "accounts": [AccountRecord(f"a{n}", NOW) for n in range(3)],
        "notifications": rows,
        "messages": {f"m{n}": message(rows[n]) for n in range(3)},
        "mutes": [Mute(f"b{n}", NOW + timedelta(hours=1)) for n in range(count)],
        "prune_at": None,
    }


def opened(path: Path) -> Contents:
    file = StateFile(path)
    contents, damage = file.open(NOW)
    file.close()
    assert damage is None
    return contents


def filled(path: Path, said: dict) -> Contents:
    file = StateFile(path)
    file.open(NOW)
    file.write(**said)
    file.close()
    return opened(path)


def verdict(path: Path, said: dict) -> Contents:
    """Open a damaged file: what is believed of it. Whatever that is, it can be written to, and is sound then."""
    damaged = path.read_bytes()
    file = StateFile(path)
    contents, damage = file.open(NOW)
    if damage is not None:
        assert contents == LOST
        assert damage.set_aside.read_bytes() == damaged
    file.write(**said | {"messages": dict.fromkeys(said["messages"]), "prune_at": NOW + timedelta(days=8)})
    file.close()
    opened(path)
    return contents


def sweep(tmp_path: Path, count: int, long: int, seed: object) -> None:
    whole = tmp_path / "whole.db"
    said = change(count, long)
    before = filled(whole, said)
    content = whole.read_bytes()
    pages = len(content) // PAGE
    for damage in DAMAGES:
        for page in range(pages):
            chance = random.Random(f"{seed}/{damage.__name__}/{page}")
            damaged = bytearray(content)
            damage(damaged, page * PAGE, chance)
            folder = tmp_path / "damaged"
            folder.mkdir()
            path = folder / "monitor.db"
            path.write_bytes(damaged)
            try:
                contents = verdict(path, said)
            except Exception as error:
                raise AssertionError(f"{damage.__name__} of page {page} of {pages}, seed {seed}") from error
            if damage not in BY_BITS:
                assert contents in (before, LOST), f"{damage.__name__} of page {page}, seed {seed}"
            shutil.rmtree(folder)


def test_every_page_damaged_in_every_way_is_noticed_or_does_not_matter(tmp_path):
    sweep(tmp_path, count=6, long=3000, seed=0)


@pytest.mark.days
@pytest.mark.timeout(180)
def test_a_larger_file_with_other_chances_each_time(tmp_path):
    seed = os.environ.get("DAYS_SEED") or random.SystemRandom().randrange(10**6)
    sweep(tmp_path, count=40, long=6000, seed=seed)


# The log beside it


def crashed(tmp_path: Path, commits: int) -> tuple[Path, list[Contents]]:
    """The files of a process that was killed, and what was known after each of its commits."""
    path, known = tmp_path / "monitor.db", [Contents()]
    file = StateFile(path)
    file.open(NOW)
    for n in range(commits):
        file.write(
            [BatchRecord.of(status(observation(), key=batch_key(n)))], [], [notification(n)], prune_at=None
        )
        known.append(read_by_another(path))
    to = tmp_path / "crashed"
    to.mkdir()
    for suffix in ("", "-wal", "-shm"):
        shutil.copyfile(f"{path}{suffix}", to / f"monitor.db{suffix}")
    file.close()
    return to / "monitor.db", known


def read_by_another(path: Path) -> Contents:
    copy = path.parent / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", copy / f"monitor.db{suffix}")
    contents = opened(copy / "monitor.db")
    shutil.rmtree(copy)
    return contents


@pytest.mark.parametrize("damage", [zeros, noise, a_bit, cut])
def test_a_damaged_log_loses_the_latest_commits_and_none_by_half(tmp_path, damage):
    path, known = crashed(tmp_path, commits=6)
    parts = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")}
    found = set()
    for place in range(len(parts["-wal"]) // PAGE):
        content = bytearray(parts["-wal"])
        damage(content, place * PAGE, random.Random(f"{damage.__name__}/{place}"))
        for stale in path.parent.iterdir():
            stale.unlink()
        path.write_bytes(parts[""])
        Path(f"{path}-wal").write_bytes(content)
        contents = opened(path)
        assert contents in known, f"place {place}"
        found.add(known.index(contents))
    assert len(found) > 2, "the sweep reaches what was written late and what was written early"


def test_a_damaged_index_of_the_log_is_made_anew(tmp_path):
    path, known = crashed(tmp_path, commits=3)
    Path(f"{path}-shm").write_bytes(random.Random(0).randbytes(32768))
    assert opened(path) == known[-1]


def test_a_log_of_another_file_is_no_part_of_this_one(tmp_path):
    path, _ = crashed(tmp_path, commits=3)
    log = Path(f"{path}-wal").read_bytes()
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    said = change(4, 3000)
    filled(path, said)
    Path(f"{path}-wal").write_bytes(log)
    try:
        verdict(path, said)
    except StoreError as error:
        pytest.fail(f"neither whole nor set aside: {error}")


def test_trouble_of_the_disk_is_not_taken_for_damage(tmp_path, monkeypatch):
    path = tmp_path / "monitor.db"
    filled(path, change(4, 3000))

    def fail(*_):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    monkeypatch.setattr("monitor.store.file._prepare", fail)
    with pytest.raises(StoreError, match="disk I/O error; storage"):
        StateFile(path).open(NOW)
    assert not list(tmp_path.glob("*corrupt*"))
