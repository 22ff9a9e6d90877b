"""When a changed configuration counts as changed."""

from __future__ import annotations

import pytest

from monitor.config import Files


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "config.yaml"
    made.write_text("one")
    return made


def test_a_change_counts_when_it_was_seen_twice(path):
    files = Files([path])
    assert [files.changed(), files.changed()] == [False, False]
    path.write_text("half")
    assert not files.changed()
    path.write_text("half and the rest")
    assert not files.changed()
    assert files.changed()
    files.about_to_be_read()
    assert [files.changed(), files.changed()] == [False, False]


def test_a_change_that_is_taken_back_is_none(path):
    files = Files([path])
    path.write_text("two")
    assert not files.changed()
    path.write_text("one")
    assert [files.changed(), files.changed()] == [False, False]


def test_what_changes_while_it_is_read_counts(path):
    files = Files([path])
    files.about_to_be_read()
    path.write_text("two")
    assert [files.changed(), files.changed()] == [False, True]


def test_a_link_that_is_swapped_counts(tmp_path):
    """As Kubernetes swaps a ConfigMap."""
    for name in ("old", "new"):
        tmp_path.joinpath(name).write_text(name)
    link = tmp_path / "config.yaml"
    link.symlink_to("old")
    files = Files([link])
    link.unlink()
    link.symlink_to("new")
    assert [files.changed(), files.changed()] == [False, True]


def test_a_file_that_is_not_there_yet_counts_when_it_comes(path, tmp_path):
    files = Files([path])
    files.look_at([path, tmp_path / "key"])
    assert [files.changed(), files.changed()] == [False, True]  # what it held when it was read is not known
    files.about_to_be_read()
    assert [files.changed(), files.changed()] == [False, False]
    tmp_path.joinpath("key").write_text("secret")
    assert [files.changed(), files.changed()] == [False, True]


def test_the_same_files_are_not_read_again(path):
    files = Files([path])
    files.look_at([path])
    assert [files.changed(), files.changed()] == [False, False]
