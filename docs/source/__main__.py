"""Writes what in ../*.md is written from the code: python -m docs.source, from the project's folder."""

from __future__ import annotations

from docs.source import FOLDER, PAGES, written

for name in PAGES:
    page = FOLDER / name
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
