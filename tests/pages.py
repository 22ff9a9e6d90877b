"""A page as a person reads it: its text, without tags, one blank between words."""

from __future__ import annotations

import html
import re


def text_of(page: str) -> str:
    """What is to be read on a page."""
    within = re.sub(r"</?(?:a|b|code|span|time)\b[^>]*>", "", page)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", within)).split())
