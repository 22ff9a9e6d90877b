"""docs/security.md counts what the suites try: the numbers are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_bad_answers
import test_bad_config
import test_bad_payloads
import test_bad_requests
from test_floods import FLOODS

PAGE = Path(__file__).parent.parent.joinpath("docs/security.md").read_text(encoding="utf-8")
SAID = {
    "configurations": f"| configuration | {len(test_bad_config.ROWS)} rows",
    "files to tamper with": f"bytes put into {len(test_bad_config.CORPUS)} good and bad files",
    "answers": f"| the API's answers | {len(test_bad_answers.ROWS)} rows",
    "fields": f"{len(test_bad_payloads.FIELDS)} fields of seven endpoints with {len(test_bad_payloads.FAULTS)} values each",
    "floods": f"| floods | {len(FLOODS)} kinds",
    "requests": f"| requests to us | {len(test_bad_requests.ROWS)} rows",
}


@pytest.mark.parametrize("text", SAID.values(), ids=SAID)
def test_the_page_counts_what_is_tried(text):
    assert text in PAGE
