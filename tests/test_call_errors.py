"""Error texts of calls, as SIP trunks and carriers write them, and the class of each."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import CallError
from monitor.ultravox.call_errors import TEXT_LIMIT, classes, classify

TEXTS = {
    CallError.BUSY: [
        "SIP 486 Busy Here",
        "SIP 486 Busy Here: +12015550100",
        "sip 486 busy here",
        "SIP 486: +12015550100",
        "SIP/2.0 486",
        "SIP_486",
        "486",
        " 486 Busy Here",
        "(486) +12015550100",
        "SIP 600 Busy Everywhere",
        "Call failed: USER_BUSY",
        "Line busy",
        "BUSY",
        "status code: 486",
        "sipResponseCode=486",
        'Reason: SIP ;cause=486 ;text="..."',
        "SIP 486 12015550100",
        "SIP 486 Busy Here (HTTPS://carrier.example)",
        "SIP 486 see http://carrier.example/404",
    ],
    CallError.UNREACHABLE: [
        "SIP 480 Temporarily Unavailable: sip:+12015550100@carrier.example",
        "SIP 408 Request Timeout",
        "487 Request Terminated",
        "480",
        "No answer from +12015550100",
        "no-answer",
        "NO_ANSWER",
        "NO_USER_RESPONSE",
        "The callee did not answer",
        "The callee didn't answer",
        "The phone number you are attempting to call, +12015550100, cannot be reached.",
        "SUBSCRIBER_ABSENT",
        "DESTINATION_OUT_OF_ORDER",
        "ORIGINATOR_CANCEL",
        "Ring timeout reached",
        "The call timed out",
        "Destination unreachable",
        "503-555-0100 did not answer",
        "(503) 555-0100 did not answer",
        "+503 7012 3456 did not answer",
        "No answer (error 480)",
    ],
    CallError.REJECTED: [
        "SIP 603 Decline",
        "SIP 603-Declined",
        "sip/2.0 603 decline",
        "SIP 403 Forbidden: +12015550100",
        "SIP 607 Unwanted",
        "SIP 608 Rejected",
        "CALL_REJECTED",
        "The call was declined by the callee",
        "Dial: Forbidden phone number +12015550100",
        "Call blocked",
        "Number is on the do-not-call list",
        "OUTGOING_CALL_BARRED",
        "480 555 0100 rejected the call",
        "480-555-0100 rejected the call",
        "480.555.0100 rejected the call",
        "error: 480-555-0100 rejected the call",
        "error: 480 555 0100 rejected the call",
        "status: (480) 555-0100 rejected the call",
        "area code 404: call rejected",
        "country code 503: call rejected",
        "sip:480@pbx.example rejected the call",
        "error 486-4b6e-9a51 was rejected",
        "code 486f1c, rejected",
        "Call 48600000-0000-4000-8000-000000000486 was rejected",
        "SIP4806 rejected",
    ],
    CallError.BAD_NUMBER: [
        "SIP 404 Not Found: +12015550100",
        "404 Not Found",
        "SIP 410 Gone",
        "SIP 484 Address Incomplete",
        "SIP 604 Does Not Exist Anywhere",
        "SIP 416 Unsupported URI Scheme",
        "UNALLOCATED_NUMBER",
        "INVALID_NUMBER_FORMAT",
        "NUMBER_CHANGED",
        "NO_ROUTE_DESTINATION",
        "The 'To' number +12015550100 is not a valid phone number.",
        "HTTP 400 error: Unable to create record: The 'To' number +120155501 is not a valid phone number",
        "Phone number +1201555010 does not appear to be valid",
        "Twilio does not support calling this number or the number is invalid",
        "Dial: Invalid phone number format",
        "Invalid destination address",
        "Phone numbers must be in E.164 format",
        "The number you have dialed is not in service",
        "Malformed SIP URI",
    ],
    CallError.PROVIDER: [
        "SIP 503 Service Unavailable: +12015550100",
        "SIP 503: +12015550100",
        "SIP 500 Server Internal Error",
        "504 Server Time-out",
        "SIP 401 Unauthorized",
        "SIP 407 Proxy Authentication Required",
        "SIP 402 Payment Required",
        "SIP 488 Not Acceptable Here",
        "SIP 483 Too Many Hops",
        "service temporarily unavailable",
        "Service Unavailable",
        "Gateway timeout",
        "All circuits are busy now",
        "NORMAL_CIRCUIT_CONGESTION",
        "NETWORK_OUT_OF_ORDER",
        "NO_ROUTE_TRANSIT_NET",
        "HTTP 404 error of the carrier",
        "HTTP 429 Too Many Requests",
        "HTTP/1.1 403 status 403",
        "HTTP status 486",
        "Twilio error 20003: Authenticate",
        "Twilio: 31005",
        "Telnyx: channel limit exceeded",
        "Insufficient balance",
        "Account is not active",
        "Account not authorized to call +12015550100. Perhaps you need to enable some international permissions.",
        "The number +12015550100 is unverified. Trial accounts may only make calls to verified numbers.",
        "The 'From' number +12015550100 is not a valid phone number",
        "The source phone number provided, +12015550100, is not yet verified for your account.",
        "Invalid caller ID number",
        "Plivo could not place the call",
        "SIP trunk is not registered",
    ],
    CallError.OTHER: [
        "",
        " ",
        "unknown",
        "SIP 200 OK",
        "SIP 700",
        "SIP 302 Moved Temporarily",
        "+15035550100",
        "503 555 0100",
        "5035550100",
        "503-555-0100",
        "(503) 555-0100",
        "Call to +1 486 555 0100 failed",
        "call to 4865550100 failed",
        "failed after 503 ms",
        "error 50312",
        "call 503e8400-e29b-41d4-a716-446655440000 failed",
        "error 555-0100",
        "error 555 0100",
        "Template variable firstName is missing",
        "\N{ARABIC-INDIC DIGIT FOUR}\N{ARABIC-INDIC DIGIT EIGHT}\N{ARABIC-INDIC DIGIT SIX}",
    ],
}
ROWS = [(text, error) for error, texts in TEXTS.items() for text in texts]


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[repr(text)[:60] for text, _ in ROWS])
def test_every_text_has_its_class_in_every_case(text, expected):
    assert {classify(text), classify(text.upper()), classify(text.lower())} == {expected}


def test_every_class_has_texts():
    assert set(TEXTS) == set(CallError)


CODES = {
    CallError.BUSY: [486, 600],
    CallError.UNREACHABLE: [408, 430, 480, 487],
    CallError.REJECTED: [403, 433, 603, 607, 608],
    CallError.BAD_NUMBER: [404, 410, 414, 416, 484, 485, 604],
    CallError.PROVIDER: [401, 402, 407, 482, 483, 488, 606, *range(500, 600)],
}


def test_a_code_alone_decides():
    """All of 000 to 999."""
    expected = dict.fromkeys(range(1000), CallError.OTHER)
    expected |= {code: error for error, codes in CODES.items() for code in codes}
    assert {code: classify(f"SIP {code:03d}") for code in expected} == expected
    assert {code: classify(f"{code:03d}") for code in expected} == expected


@given(st.integers(200, 989), st.integers(200, 999), st.integers(0, 9999), st.sampled_from("-. "))
def test_a_phone_number_is_no_code_however_it_is_written(area, exchange, line, between):
    number = f"{area}{between}{exchange}{between}{line:04d}"
    for text in (
        number,
        f"({area}) {exchange}-{line:04d}",
        f"+1 {number}",
        f"error: {number}",
        f"SIP {number}",
    ):
        assert classify(text) is CallError.OTHER, text


@given(st.uuids())
def test_an_id_is_no_code(call_id):
    assert classify(f"{call_id}") is CallError.OTHER
    assert classify(f"error {call_id}") is CallError.OTHER


@given(st.text())
def test_every_text_has_a_class(text):
    assert classify(text) in CallError


LONG = {
    "invalid": "invalid " * 12_500,
    "number": "number " * 14_000,
    "not": "not " * 25_000,
    "error": "error 486-" * 10_000,
    "service": "service temporarily " * 5_000,
    "spaces": " " * 100_000,
    "brackets": "[(" * 50_000,
    "digits": "4" * 100_000,
    "hex": "error 486-" + "a" * 100_000,
    "phones": "503-555-0100 " * 8_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_text_is_read_in_no_time(text):
    started = time.thread_time()
    classify(text)
    assert time.thread_time() - started < 0.2


def test_what_is_read_of_a_long_text_is_its_beginning():
    assert classify("x" * (TEXT_LIMIT - 5) + " busy") is CallError.BUSY
    assert classify("x" * (TEXT_LIMIT - 4) + " busy") is CallError.OTHER


def test_classes_are_counted_the_commonest_first_and_equals_in_the_order_of_the_classes():
    texts = ["SIP 503", "busy", "no answer", "SIP 480", "busy", "SIP 503", "what?"]
    assert classes(texts) == (
        (CallError.BUSY, 2),
        (CallError.UNREACHABLE, 2),
        (CallError.PROVIDER, 2),
        (CallError.OTHER, 1),
    )
    assert classes([]) == ()
