"""The web configuration: what it means, what is said of every mistake in it, and what promtool says of it."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from doors import AUTHORITY, HASH, write_certificate, write_web
from test_stack import program

from monitor import config
from monitor.config import ConfigError, web_file

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "deploy/web/web.example.yml"
BAD = sorted(Path(__file__).parent.joinpath("data/web/bad").glob("*.yml"))
MINIMAL = "accounts: [{name: main, api_key: '${KEY}'}]\n"
ENVIRON = {"KEY": "Zk3hQ9aB.0123456789abcdef0123456789abcdef"}


def folder_with_all(folder):
    """What the bad files name."""
    issued = write_certificate(folder)
    folder.joinpath("ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    folder.joinpath("other.pem").write_bytes(AUTHORITY.issue_cert("localhost").private_key_pem.bytes())
    folder.joinpath("garbage.pem").write_text("correct-horse\n")
    folder.joinpath("damaged.pem").write_text(
        "-----BEGIN CERTIFICATE-----\ncorrecthorse\n-----END CERTIFICATE-----\n"
    )
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    folder.joinpath("encrypted.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"correct-horse"),
        )
    )


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_mistake_is_told_with_its_place_and_what_to_do(path, tmp_path):
    """The expected lines stand at the end of each file, where they move no other line."""
    text = path.read_text(encoding="utf-8")
    expected = re.findall(r"^# expect: (.*)$", text, flags=re.MULTILINE)
    assert expected
    folder_with_all(tmp_path)
    tmp_path.joinpath("web.yml").write_text(text.partition("# expect: ")[0], encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load_default({"ULTRAVOX_API_KEY": ENVIRON["KEY"]}, web_config_file=tmp_path / "web.yml")
    assert str(caught.value).splitlines() == [f"{tmp_path / 'web.yml'}:{line}" for line in expected]
    assert "correct" not in str(caught.value).replace(str(tmp_path), "")
    assert tmp_path / "web.yml" in caught.value.sources


def test_there_are_enough_bad_files():
    assert len(BAD) >= 45


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yml:1:1: cannot be read: No such file or directory"):
        config.load_default({"ULTRAVOX_API_KEY": ENVIRON["KEY"]}, web_config_file=tmp_path / "nowhere.yml")


def test_a_file_as_large_as_none_is_is_refused(tmp_path):
    path = tmp_path / "web.yml"
    path.write_bytes(b"#" * (web_file.SIZE_LIMIT + 1))
    assert [one.text for one in web_file.read(path).mistakes] == [
        "cannot be read: it is larger than 1024 KiB"
    ]


@pytest.mark.parametrize("which", ["web.yml", "cert.pem", "key.pem", "ca.pem"])
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path, which):
    write_web(tmp_path, tls={"client_auth_type": "VerifyClientCertIfGiven", "client_ca_file": "ca.pem"})
    (tmp_path / which).unlink(missing_ok=True)
    os.mkfifo(tmp_path / which)
    [mistake] = web_file.read(tmp_path / "web.yml").mistakes
    assert mistake.text == "cannot be read: it is no regular file"


def write_config(folder, more=""):
    path = folder / "config.yaml"
    path.write_text(MINIMAL + more)
    return path


def test_without_one_there_is_neither_tls_nor_a_password(tmp_path):
    found = config.load(write_config(tmp_path), ENVIRON)
    assert (found.access.tls, dict(found.access.users)) == (None, {})


def test_the_configuration_names_it_relative_to_itself_and_it_names_files_relative_to_itself(tmp_path):
    tmp_path.joinpath("access").mkdir()
    write_web(tmp_path / "access", tls={}, users={"a": HASH}, headers={"X-XSS-Protection": "0"})
    found = config.load(write_config(tmp_path, "web: {config_file: access/web.yml}\n"), ENVIRON)
    assert dict(found.access.users) == {"a": HASH}
    assert found.access.headers == {"X-XSS-Protection": "0"}
    assert found.access.tls.context.verify_mode is ssl.CERT_NONE
    assert {path.name for path in found.sources} == {"config.yaml", "web.yml", "cert.pem", "key.pem"}
    hidden = {secret.get_secret_value() for secret in found.secrets}
    assert hidden == {ENVIRON["KEY"], HASH, str(tmp_path / "access/key.pem")}
    assert HASH not in repr(found)


def test_the_command_line_s_file_wins(tmp_path):
    write_web(tmp_path, users={"a": HASH})
    path = write_config(tmp_path, "web: {config_file: nowhere.yml}\n")
    found = config.load(path, ENVIRON, web_config_file=tmp_path / "web.yml", read_only=True)
    assert dict(found.access.users) == {"a": HASH}
    assert found.web.read_only


def test_mistakes_of_both_files_are_told_at_once(tmp_path):
    tmp_path.joinpath("web.yml").write_text("basic_auth_users: {a: b}\n")
    path = write_config(tmp_path, "web: {config_file: web.yml, external_url: nonsense}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path, ENVIRON)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "web.external_url",
        "basic_auth_users.a",
    ]
    assert {path.name for path in caught.value.sources} == {"config.yaml", "web.yml"}
    assert len(caught.value.mistakes) == 2


def test_a_dollar_sign_is_a_dollar_sign(tmp_path, monkeypatch):
    path = write_web(tmp_path, headers={"Content-Security-Policy": "${KEY} $$"})
    assert web_file.read(path).access.headers == {"Content-Security-Policy": "${KEY} $$"}


def ready(folder):
    """The example, with what it names."""
    issued = write_certificate(folder)
    folder.joinpath("server.crt").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    folder.joinpath("server.key").write_bytes(issued.private_key_pem.bytes())
    folder.joinpath("clients-ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    path = folder / "web.yml"
    path.write_bytes(EXAMPLE.read_bytes())
    return path


def everything(path):
    """The same, with what is commented out in it."""
    path.write_text(re.sub(r"^( *)# (\w+: )", r"\1\2", path.read_text(), flags=re.MULTILINE))
    return path


def test_the_example_can_be_used_and_so_can_what_is_commented_out_in_it(tmp_path):
    found = web_file.read(ready(tmp_path))
    assert not found.mistakes
    assert set(found.access.users) == {"prometheus"}
    assert not found.access.tls.client_required
    found = web_file.read(everything(ready(tmp_path)))
    assert not found.mistakes
    assert found.access.tls.client_required


def test_the_example_s_versions_are_the_defaults(tmp_path):
    shown, plain = web_file.read(ready(tmp_path)), web_file.read(write_web(tmp_path, tls={}))
    for name in ("minimum_version", "maximum_version", "options"):
        assert getattr(shown.access.tls.context, name) == getattr(plain.access.tls.context, name)


def promtool(path):
    command = [os.environ.get("PROMTOOLS") or program("promtool"), "check", "web-config", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def without_what_is_newer(path):
    """Promtool learnt of client_allowed_sans in 2.43; Debian 12 has 2.42."""
    if "client_allowed_sans not found" in promtool(path).stderr:
        path.write_text(re.sub(r"\n *client_allowed_sans:.*", "", path.read_text()))
    return path


@pytest.mark.stack
@pytest.mark.parametrize("more", [False, True])
def test_promtool_takes_the_example(tmp_path, more):
    path = everything(ready(tmp_path)) if more else ready(tmp_path)
    checked = promtool(without_what_is_newer(path))
    assert checked.returncode == 0, checked.stderr
    assert "SUCCESS" in checked.stdout + checked.stderr


@pytest.mark.stack
@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_what_promtool_refuses_is_refused(tmp_path, path):
    """The bad files are all those that we refuse. Of these promtool takes some, for reasons that are told here."""
    folder_with_all(tmp_path)
    tmp_path.joinpath("web.yml").write_bytes(path.read_bytes())
    taken = promtool(without_what_is_newer(tmp_path / "web.yml")).returncode == 0
    stricter = {
        *("empty", "commented-out", "users-left-empty", "users-none", "tls-left-empty"),  # they open the door
        *("tls-without-files",),  # the same: it means no TLS
        *("client-auth-unverified", "client-auth-any"),  # Python cannot
        *("curves",),
        *("version-old", "ca-missing", "versions-reversed", "ca-not-pem", "ca-damaged", "sans-for-nothing"),
        *("sans-none",),
        *("hash-too-costly", "hash-salt-damaged", "user-with-a-colon", "user-empty"),
        *("header-two-lines", "header-a-number"),
    }
    assert taken == (path.stem in stricter), promtool(tmp_path / "web.yml").stderr
