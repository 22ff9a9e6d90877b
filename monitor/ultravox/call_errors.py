"""Why calls failed, in classes. The texts themselves hold phone numbers: they stay in this package.

Pure. SIP status codes are read as RFC 3261 defines them (and RFC 8197 for 607, RFC 8688 for 608); where a
text has no code, the words that carriers use decide. The first row that matches counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from monitor.model import CallError

_CODE = re.compile(r"\b(?:SIP|code|status|error)\W{0,3}([3-6]\d\d)\b|^\s*([3-6]\d\d)\b", re.IGNORECASE)

_CODES: dict[CallError, frozenset[int]] = {
    CallError.BUSY: frozenset({486, 600}),
    CallError.UNREACHABLE: frozenset({408, 410, 430, 480, 487}),
    CallError.REJECTED: frozenset({403, 433, 603, 607, 608}),
    CallError.BAD_NUMBER: frozenset({404, 414, 416, 484, 485, 604}),
    CallError.PROVIDER: frozenset({401, 402, 407, 488, 606}),
}

_WORDS: tuple[tuple[CallError, re.Pattern[str]], ...] = (
    (CallError.BUSY, re.compile(r"\bbusy\b", re.IGNORECASE)),
    (
        CallError.BAD_NUMBER,
        re.compile(
            r"(invalid|malformed|unallocated|not a valid|incomplete|bad|unassigned).{0,30}(number|address|destination|uri)"
            r"|not (in service|found)",
            re.IGNORECASE,
        ),
    ),
    (CallError.REJECTED, re.compile(r"reject|declin|blocked|forbidden|blacklist|do not call", re.IGNORECASE)),
    (
        CallError.UNREACHABLE,
        re.compile(
            r"no.?answer|unreachable|unavailable subscriber|temporarily unavailable|timed? ?out|not reachable",
            re.IGNORECASE,
        ),
    ),
    (
        CallError.PROVIDER,
        re.compile(
            r"provider|carrier|trunk|gateway|twilio|telnyx|plivo|exotel|vonage|unauthori|authentication|credential|"
            r"insufficient|quota|rate limit|concurren|service unavailable|server error",
            re.IGNORECASE,
        ),
    ),
)


def classify(text: str) -> CallError:
    """The class of one error text."""
    if match := _CODE.search(text):
        code = int(match[1] or match[2])
        for error, codes in _CODES.items():
            if code in codes:
                return error
        if 500 <= code < 600:
            return CallError.PROVIDER
    return next((error for error, words in _WORDS if words.search(text)), CallError.OTHER)


def classes(texts: Iterable[str]) -> tuple[tuple[CallError, int], ...]:
    """How many texts fall into which class, the commonest first."""
    order = list(CallError)
    found = Counter(classify(text) for text in texts)
    return tuple(sorted(found.items(), key=lambda pair: (-pair[1], order.index(pair[0]))))
