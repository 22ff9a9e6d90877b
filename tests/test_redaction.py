"""Secrets in every form in which they reach a text, and texts that are left alone."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.redaction import REDACTED, Redactor

ODD = 'pa"ss\\wört/+ 7&<é>'
KEY = "Zk3hQ9aB.0123456789abcdef0123456789abcdef"
FORMS = {
    "as it is": str,
    "URL-encoded": lambda secret: quote(secret, safe=""),
    "URL-encoded, in small letters": lambda secret: quote(secret, safe="").replace("%C3", "%c3").lower(),
    "as a form's value": quote_plus,
    "in a path": lambda secret: quote(secret, safe="/:?&=@"),
    "in JSON": json.dumps,
    "in JSON, not only ASCII": lambda secret: json.dumps(secret, ensure_ascii=False),
    "in JSON in JSON": lambda secret: json.dumps(json.dumps({"a": secret})),
    "as Python writes it": repr,
    "as Python writes its bytes": lambda secret: repr(secret.encode()),
    "in HTML": html.escape,
    "in base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "in base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "after a user in basic auth": lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
    "after another user": lambda secret: base64.b64encode(f"admin:{secret}".encode()).decode(),
    "amid base64": lambda secret: base64.b64encode(f"user:{secret}, and more".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("secret", [ODD.lower(), KEY.lower(), "correct-horse"], ids=["odd", "key", "plain"])
def test_a_secret_is_found_in_every_form(secret, form):
    redactor = Redactor()
    redactor.hide([secret])
    assert REDACTED in redactor.redact(f"before {form(secret)} after")
    assert form(secret) not in redactor.redact(f"before {form(secret)} after")


HOOK = "https://user:p%40ss-word@hooks.example/services/T0000001/kX9-abcdef123?token=zz81-22f&team=growth#frag-0001"
LEFT_OF_URLS = {
    "/services/T0000001": "/services/<redacted>",
    "kX9-abcdef123": REDACTED,
    "token=zz81-22f": f"token={REDACTED}",
    "p%40ss-word": REDACTED,
    "p@ss-word": REDACTED,
    "user:p@ss-word": REDACTED,
    "hooks.example": "hooks.example",
    "services": "services",
    "growth": "growth",
}


@pytest.mark.parametrize(("text", "left"), LEFT_OF_URLS.items(), ids=LEFT_OF_URLS)
def test_of_a_url_its_tokens_are_secrets_and_its_words_are_none(text, left):
    redactor = Redactor()
    redactor.hide([HOOK])
    assert redactor.redact(text) == left


def test_of_an_apprise_url_the_first_token_stands_where_others_have_a_host():
    redactor = Redactor()
    redactor.hide(["tgram://123456789:abcdefg_hijklmnop/-100200300/"])
    assert redactor.redact("bot123456789 of -100200300") == f"bot{REDACTED} of {REDACTED}"


def test_half_a_key_is_a_secret():
    redactor = Redactor()
    redactor.hide([KEY])
    assert redactor.redact(KEY.partition(".")[2]) == REDACTED


def test_a_password_that_cannot_be_in_a_url_is_hidden_all_the_same():
    redactor = Redactor()
    redactor.hide(["http://[::1", "x" * 3, "", "four"])
    assert redactor.redact("http://[::1 xxx four") == f"{REDACTED} xxx {REDACTED}"


@given(secret=st.text(min_size=4), around=st.text(max_size=5))
def test_any_text_can_be_a_secret(secret, around):
    redactor = Redactor()
    redactor.hide([secret])
    text = redactor.redact(f"{around}{secret}{around}")
    stripped = secret.strip()
    assert len(stripped) < 4 or stripped not in text.replace(REDACTED, "") or stripped in f"{around}{around}"


def test_names_of_hosts_and_folders_are_no_secrets():
    made = Redactor()
    made.hide(
        ["http://alertmanager-operated.monitoring-namespace.svc:9093", "/etc/ultravox-batch-monitor/key.pem"]
    )
    text = "/etc/ultravox-batch-monitor/config.yaml: alertmanager-operated does not answer"
    assert made.redact(text) == text
    assert made.redact("key at /etc/ultravox-batch-monitor/key.pem") == "key at <redacted>"
