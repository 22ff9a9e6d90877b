"""Why calls failed, in classes. The texts themselves hold phone numbers: they stay in this package.

Pure. SIP status codes are read as RFC 3261 defines them (and RFC 8197 for 607, RFC 8688 for 608); where a
text has no code, the words that carriers use decide. The first row that matches counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from monitor.model import CallError

TEXT_LIMIT = 2000
"""Characters of a text that are read: what went wrong is said at its beginning."""

# Three digits are a code only after a word that announces one, or at the very beginning; and never where
# they are an area code (480-555-0100, 480 555 0100), an extension (sip:480@…) or the start of an id (486-4b6e).
_CODE = re.compile(
    r"(?:\b(?:sip(?:/2\.0)?|status|error|cause|response)|(?<!area )(?<!country )code)"
    r"\W{0,3}([3-6]\d\d)(?![\w@])(?!-[0-9a-f]{0,12}\d)(?![-. )]{0,2}(?:\d{3}[-. ]?)?\d{4}(?!\d))"
    r"|^[\s(\[]{0,9}([3-6]\d\d)(?![\w@])(?!-[0-9a-f]{0,12}\d)(?![-. )]{0,2}\d)",
    re.IGNORECASE,
)
_HTTP = re.compile(r"\bhttp\b(?!s?:/)", re.IGNORECASE)  # then the code is not one of SIP

_CODES: dict[CallError, frozenset[int]] = {
    CallError.BUSY: frozenset({486, 600}),
    CallError.UNREACHABLE: frozenset({408, 430, 480, 487}),
    CallError.REJECTED: frozenset({403, 433, 603, 607, 608}),
    CallError.BAD_NUMBER: frozenset({404, 410, 414, 416, 484, 485, 604}),
    CallError.PROVIDER: frozenset({401, 402, 407, 482, 483, 488, 606}),
}


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_NUMBER = r"(?:number|address|destination|uri)"
_WRONG = r"(?:invalid|malformed|un(?:allocated|assigned)|incomplete|\bbad\b|not (?:a |appear to be )?valid)"
_WORDS: tuple[tuple[CallError, re.Pattern[str]], ...] = (
    (  # what is wrong on the caller's side of the call, before it says anything of the one who was called
        CallError.PROVIDER,
        _any(
            r"authenticat|credential|access token|un-?authori[sz]ed|not (?:been )?authori[sz]ed|permission",
            r"insufficient|balance|payment|quota|(?:rate|channel|concurrency|account).?limit|concurren|too many requests",
            r"caller.?id|'from'|source (?:phone )?number|un-?verified|not (?:yet )?verified|trial account",
            r"account.{0,20}(?:suspended|not (?:active|allowed|found))",
            r"circuit|congest|trunk|gateway|no route (?:to )?(?:specified )?transit",
            r"(?:server|internal|network) (?:error|time|fail|out of order)",
            r"service (?:is )?(?:temporarily |currently )?unavailable",
        ),
    ),
    (CallError.BUSY, _any(r"busy")),
    (
        CallError.BAD_NUMBER,
        _any(
            rf"{_WRONG}.{{0,40}}{_NUMBER}|{_NUMBER}.{{0,60}}{_WRONG}",
            r"not found|not in service|number.{0,20}(?:changed|disconnected)|does not exist|no route (?:to )?dest|E\.?164",
        ),
    ),
    (CallError.REJECTED, _any(r"reject|declin|block|forbidden|black.?list|do.?not.?call|barred|unwanted")),
    (
        CallError.UNREACHABLE,
        _any(
            r"(?:\bno|not|n't).?(?:user )?(?:answer|respon|reach|pick)|unreachable|(?:not|n't) be reached",
            r"temporarily unavailable|unavailable subscriber|subscriber (?:absent|unavailable|offline)",
            r"time[ds]?[- ]?out|out of order|request terminated|originator cancel|ring time|switched off",
        ),
    ),
    (CallError.PROVIDER, _any(r"provider|carrier|twilio|telnyx|plivo|exotel|vonage|\bhttp\b(?!s?:/)")),
)


def classify(text: str) -> CallError:
    """The class of one error text."""
    said = text[:TEXT_LIMIT].replace("_", " ")
    if not _HTTP.search(said) and (match := _CODE.search(said)):
        code = int(match[1] or match[2])
        for error, codes in _CODES.items():
            if code in codes:
                return error
        if 500 <= code < 600:
            return CallError.PROVIDER
    return next((error for error, words in _WORDS if words.search(said)), CallError.OTHER)


def classes(texts: Iterable[str]) -> tuple[tuple[CallError, int], ...]:
    """How many texts fall into which class, the commonest first."""
    order = list(CallError)
    found = Counter(classify(text) for text in texts)
    return tuple(sorted(found.items(), key=lambda pair: (-pair[1], order.index(pair[0]))))
