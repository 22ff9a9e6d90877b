"""`--shard` and what belongs to it, as their user meets them."""

from __future__ import annotations

import pytest
from test_cli import KEY, run

from monitor.cli.sharding import sharding_of
from monitor.shards import Shard

PEERS = "http://monitor-{shard}.test:10042"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard=1"], "--shard: '1' is not i/n, like 0/3; i may also be a pod's name that ends in -i"),
        (["--shard="], "--shard: '' is not i/n"),
        (["--shard=0/0"], "--shard: '0/0': there must be at least 1 shard"),
        (["--shard=0/1001"], "--shard: '0/1001': there may be 1000 shards at most"),
        ([f"--shard.peers={PEERS}"], "--shard.peers and --shard.http.config.file need --shard=I/N"),
        (["--shard.http.config.file=x"], "--shard.peers and --shard.http.config.file need --shard=I/N"),
        (["--shard=0/3", "--shard.peers=monitor:10042"], "must be an address with {shard} in it"),
        (["--shard=0/3", "--shard.peers=http://monitor:10042"], "must be an address with {shard} in it"),
        (["--shard=0/3", f"--shard.peers={PEERS}", "--shard.http.config.file=/no"], "/no: cannot be read"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_starts(options, said):
    result = run("run", *options, **KEY)
    assert result.exit_code == 2
    assert said in result.output


def test_an_ordinal_too_high_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("run", "--shard=monitor-3/3", "--web.listen-address=127.0.0.1:0", **KEY)
    assert result.exit_code == 1
    assert "--shard 3/3: ordinals begin at 0, of 3 shards the last is 2" in result.output


def test_what_is_said_is_understood(tmp_path):
    assert sharding_of(None, None, None) is None
    plain = sharding_of("monitor-1/3", None, None)
    assert (plain.shard, plain.peers) == (Shard(1, 3), None)
    file = tmp_path / "http.yml"
    file.write_text(
        "basic_auth: {username: shard, password: between us}\n"
        "tls_config: {server_name: monitor.test, insecure_skip_verify: true}\n"
    )
    found = sharding_of("2/3", PEERS, file)
    assert (found.shard, found.peers, found.server_name) == (Shard(2, 3), PEERS, "monitor.test")
    assert found.authorization == "Basic c2hhcmQ6YmV0d2VlbiB1cw=="
    assert found.tls.check_hostname is False
    assert "c2hhcmQ6" not in repr(found)
