"""The licence of every package that runs with the monitor, as the packages say it, and whether ours goes with it.

`python -m deploy.supply.licences > docs/licences.md`. Nothing is guessed: who says it in a way that is not known here, or is
not known to go with Apache-2.0, is a mistake until somebody has looked.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).parents[2] / "requirements.lock"

ALLOWED = {
    "Apache-2.0": "ours, too",
    "BSD-2-Clause": "asks for its notice",
    "BSD-3-Clause": "asks for its notice",
    "ISC": "asks for its notice",
    "MIT": "asks for its notice",
    "MPL-2.0": "asks that changes of its own files be published; we change none, and what is beside it is free",
    "PSF-2.0": "asks for its notice",
}
"""SPDX's names of the terms under which a package may run with ours, and what they ask of who passes it on."""

_SAID = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}
"""Words that mean one of these without saying so in SPDX's."""

_LOOKED_UP = {"jinja2": "BSD-3-Clause"}
"""Packages that say only "BSD License": what the licence file in them is."""


class UnknownError(Exception):
    """A package whose licence is not known to go with ours."""


def locked() -> list[str]:
    """The names of what is in the lock."""
    return re.findall(r"^([a-z0-9-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)


def licence(name: str, said: metadata.PackageMetadata) -> str:
    """What a package says, as an expression of SPDX. UnknownError when that is nothing that is allowed."""
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in said.get_all("Classifier") or []
        if value.startswith("License")
    ]
    expression = said.get("License-Expression") or said.get("License") or " AND ".join(classifiers)
    expression = _LOOKED_UP.get(name) or _SAID.get(expression, expression)
    parts = re.split(r" AND | OR ", expression.replace("(", "").replace(")", ""))
    if unknown := [part for part in parts if part not in ALLOWED]:
        raise UnknownError(f"{name}: {', '.join(unknown) or 'says nothing'}")
    return expression


def page() -> str:
    """docs/licences.md."""
    rows = []
    for name in locked():
        said = metadata.metadata(name)
        rows.append(f"| {name} | {licence(name, said)} | {' '.join((said.get('Summary') or '').split())} |")
    terms = [f"- **{name}**: {what}" for name, what in ALLOWED.items()]
    return "\n".join(
        [
            "# Licences of what runs with the monitor",
            "",
            "Written by `make licences` from the packages' own metadata; a test fails on a package whose licence is not known to go with",
            "ours, Apache-2.0. Versions and hashes are in `requirements.lock`, what each is for in [supply.md](supply.md).",
            "",
            "| package | licence | what it says of itself |",
            "| --- | --- | --- |",
            *rows,
            "",
            "What they ask of who passes them on, as the image does, whose packages keep their licence files:",
            "",
            *terms,
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(page())
