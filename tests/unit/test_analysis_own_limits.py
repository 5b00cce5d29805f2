"""A limit that the connections of the caller's own login are past already is refused before it is put in force."""

from __future__ import annotations

import ipaddress

import pytest

from layergate.analysis.login import Login, over_limits
from layergate.cli import telling
from layergate.model import PolicyError
from layergate.policyfile import TableResolver, load_text

HERE, ME, OTHER = (ipaddress.ip_address(text) for text in ("192.0.2.1", "203.0.113.9", "203.0.113.10"))


def connection(remote: object = ME, remote_port: int = 40_000, local_port: int = 22) -> Login:
    return Login(HERE, local_port, remote, remote_port)  # type: ignore[arg-type]


LOGIN = connection()
MINE = [connection(remote_port=40_000 + number) for number in range(3)]
OTHERS = [connection(OTHER, 50_000 + number) for number in range(5)]
WEB = [connection(remote_port=60_000 + number, local_port=443) for number in range(9)]


def text_of(limit: str, when: str = "local_port = 22", more: str = "") -> str:
    return f"""
[[filter]]
name = "few"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
weight = 5
when = {{ {when} }}
limit = {{ {limit} }}
{more}
"""


def found(text: str) -> list[str]:
    policy = load_text(text, file="policy.toml", resolver=TableResolver()).policy
    return [one.evidence for one in over_limits(policy, LOGIN, [*MINE, *OTHERS, *WEB])]


@pytest.mark.parametrize(
    "limit, when, count",
    [
        ('per = "remote_address", concurrent = 2', "local_port = 22", 3),
        ('per = "remote_address", concurrent = 3', "local_port = 22", 0),
        ('per = "remote_prefix", prefix_v4 = 24, concurrent = 7', "local_port = 22", 8),
        ('per = "all", concurrent = 16', "remote_address = '203.0.113.0/24'", 17),
        ('per = "remote_address+local_port", concurrent = 4', "remote_address = '203.0.113.9'", 0),
        ('per = "remote_address", concurrent = 2', "local_port = 443", 0),
        ('per = "remote_address", new = 1, over = "1m"', "local_port = 22", 0),
    ],
)
def test_what_the_login_s_key_has_is_counted(limit: str, when: str, count: int) -> None:
    most = limit.rpartition("= ")[2]
    told = f"203.0.113.9, which you work from, has {count} connections that it counts, and its limit is {most}"
    assert found(text_of(limit, when)) == ([told] if count else [])


def test_an_exemption_and_monitor_are_no_danger() -> None:
    limit = text_of('per = "remote_address", concurrent = 1')
    exempt = """
[[filter]]
name = "me"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "permit"
weight = 9
when = { remote_address = "203.0.113.9" }
"""
    assert found(limit)
    assert found(limit + exempt) == []
    assert found(text_of('per = "remote_address", concurrent = 1', more="monitor = true")) == []


def test_the_policy_is_refused_with_the_reason_where_it_would_be_put_in_force(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = f"{tmp_path}/policy.toml"
    with open(file, "w", encoding="utf-8") as out:  # noqa: PTH123
        out.write(text_of('per = "remote_address", concurrent = 2'))
    monkeypatch.setattr(telling, "_connections", lambda: MINE)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert telling.load(file).filters
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 40000 192.0.2.1 22")
    with pytest.raises(PolicyError, match=r"policy.toml:2: .*'few'.*3 connections.*limit is 2"):
        telling.load(file)
