"""Limits in policy files: what they load to, and what is refused, with its line and what would be accepted."""

from __future__ import annotations

import json

import pytest

from layergate.model import Ban, Counted, Key, Limit, Per, PolicyError, Problem, Response
from layergate.policyfile import TableResolver, load_text

RESOLVER = TableResolver()
ACCEPT, CONNECT = "ALE_AUTH_RECV_ACCEPT", "ALE_AUTH_CONNECT"


def file_of(body: str, layer: str = ACCEPT, action: str = "block") -> str:
    """A file whose only filter is fine but for *body*, which begins in line 5."""
    return f'[[filter]]\nname = "f"\nlayer = "{layer}"\naction = "{action}"\n{body}\n'


def limit_of(body: str, layer: str = ACCEPT) -> Limit:
    policy = load_text(file_of(body, layer), file="p.toml", resolver=RESOLVER).policy
    limits = {item.limit for item in policy.filters}
    assert len(policy.filters) == 2, "both families"
    assert len(limits) == 1
    limit = limits.pop()
    assert limit is not None
    return limit


def problems_of(body: str, layer: str = ACCEPT, action: str = "block") -> tuple[Problem, ...]:
    with pytest.raises(PolicyError) as raised:
        load_text(file_of(body, layer, action), file="p.toml", resolver=RESOLVER)
    return raised.value.problems


ADDRESS, CONNECTION = Key(Per.REMOTE_ADDRESS), Key(Per.TUPLE)
UNIT_LIMIT = """limit = { per = "unit", concurrent = 1 }
response = "reset"
ban = { for = "10m", up_to = "1d" }
monitor = true"""
GOOD = [
    (
        "concurrent ones",
        'limit = { per = "remote_address", concurrent = 20 }',
        Limit(ADDRESS, Counted.CONCURRENT, 20),
    ),
    (
        "new ones in a period",
        'limit = { per = "app", new = 5, over = "250ms" }',
        Limit(Key(Per.APP), Counted.NEW, 5, over_ms=250),
    ),
    (
        "a prefix has its usual lengths",
        'limit = { per = "remote_prefix", half_open = 9 }',
        Limit(Key(Per.REMOTE_PREFIX, 24, 64), Counted.HALF_OPEN, 9),
    ),
    (
        "a total is shared fairly",
        'limit = { per = "all", concurrent = 9, fair = "remote_prefix", prefix_v6 = 56 }',
        Limit(Key(Per.ALL), Counted.CONCURRENT, 9, fair=Key(Per.REMOTE_PREFIX, 24, 56)),
    ),
    (
        "a slow connection is its own key",
        'limit = { slow = { bytes = 100, over = "10s", grace = "5s" } }',
        Limit(CONNECTION, Counted.SLOW, over_ms=10_000, grace_ms=5_000, bytes=100),
    ),
    (
        "an empty connection bans its source",
        'limit = { per = "remote_address", empty = { grace = "1m" } }\nban = "1h"',
        Limit(ADDRESS, Counted.EMPTY, grace_ms=60_000, ban=Ban(3_600_000)),
    ),
    (
        "abnormal connections make an attacker",
        'limit = { per = "remote_address", abnormal = 3, over = "1m", connections = 4 }',
        Limit(ADDRESS, Counted.ABNORMAL, 3, over_ms=60_000, connections=4),
    ),
    (
        "what happens beside",
        UNIT_LIMIT,
        Limit(
            Key(Per.UNIT), Counted.CONCURRENT, 1, response=Response.RESET, ban=Ban(600_000, 86_400_000), monitor=True
        ),
    ),
]


@pytest.mark.parametrize("body, limit", [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_a_limit_loads(body: str, limit: Limit) -> None:
    assert limit_of(body) == limit


BAD = [
    (
        "a period of nothing",
        'limit = { per = "all", new = 5, over = "0s" }',
        "limit.over",
        "over = '0s'",
        "more than 0",
    ),
    ("a period too long", 'limit = { per = "all", new = 5, over = "2d" }', "limit.over", "over = '2d'", "1d at most"),
    ("a period without a unit", 'limit = { per = "all", new = 5, over = 10 }', "limit.over", "over = 10", "'10s'"),
    ("no period", 'limit = { per = "all", new = 5 }', "filter 'f'", "new without a period", 'over = "10s"'),
    ("a negative count", 'limit = { per = "all", new = -1, over = "1s" }', "limit.new", "new = -1", "from 1 to"),
    (
        "a count of none",
        'limit = { per = "all", concurrent = 0 }',
        "limit.concurrent",
        "= 0",
        "a block without a limit",
    ),
    ("no whole count", 'limit = { per = "all", concurrent = 1.5 }', "limit.concurrent", "= 1.5", "a whole number"),
    ("truth as a count", 'limit = { per = "all", concurrent = true }', "limit.concurrent", "= true", "a whole number"),
    ("no key", "limit = { concurrent = 5 }", "limit.per", "no per", '"remote_address"'),
    ("an unknown key", 'limit = { per = "remote_adress", concurrent = 5 }', "limit.per", "adress'", "did you mean"),
    ("nothing counted", 'limit = { per = "all" }', "filter 'f'", "counts nothing", "exactly one of concurrent"),
    (
        "two things counted",
        'limit = { per = "all", concurrent = 5, new = 5, over = "1s" }',
        "limit.new",
        "concurrent and new together",
        "a filter of its own for each",
    ),
    (
        "fair shares without all",
        'limit = { per = "app", concurrent = 5, fair = "remote_address" }',
        "limit.fair",
        'fair with per = "app"',
        'only with per = "all"',
    ),
    (
        "shares of a rate",
        'limit = { per = "all", new = 5, over = "1s", fair = "app" }',
        "limit.fair",
        "beside new",
        "per",
    ),
    ("shares for all", 'limit = { per = "all", concurrent = 5, fair = "all" }', "limit.fair", '"all"', "among whom"),
    ("a prefix too long", 'limit = { per = "remote_prefix", prefix_v4 = 33, concurrent = 1 }', "prefix_v4", "33", "32"),
    ("a prefix of no prefix", 'limit = { per = "app", prefix_v4 = 8, concurrent = 1 }', "prefix_v4", "without", "per"),
    ("no such thing", 'limit = { per = "all", conections = 5 }', "limit.conections", "unknown key", "did you mean"),
    ("half a table", 'limit = { slow = { bytes = 1, over = "1s" } }', "limit.slow", "without grace", "grace ="),
    ("no table", "limit = { slow = 5 }", "limit.slow", "slow = 5", "slow = { bytes"),
    ("no limit", "limit = 5", "filter 'f'", "limit = 5", "concurrent = 20"),
    ("a ban of no limit", 'ban = "10m"', "filter 'f'", "ban without a limit", "only beside limit"),
    ("another protocol", 'limit = { per = "all", concurrent = 1 }\nwhen = { protocol = "udp" }', "'f'", "TCP", '"tcp"'),
]


@pytest.mark.parametrize("body, subject, found, accepted", [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_limit_that_is_nonsense_is_refused(body: str, subject: str, found: str, accepted: str) -> None:
    told = problems_of(body)
    assert any(
        one.line == 5 and subject in one.object and found in one.found and accepted in one.accepted for one in told
    ), "\n".join(map(str, told))


@pytest.mark.parametrize(
    "layer, body, found, accepted",
    [
        ("INBOUND_TRANSPORT", 'limit = { per = "all", concurrent = 5 }', "where no connection begins", ACCEPT),
        (ACCEPT, 'limit = { per = "all", remotes = 5, over = "1s" }', f"remotes is not counted at {ACCEPT}", CONNECT),
        (CONNECT, 'limit = { per = "app", ports = 5, over = "1s" }', f"ports is not counted at {CONNECT}", ACCEPT),
        (CONNECT, 'limit = { per = "app", closed = 5, over = "1s" }', f"closed is not counted at {CONNECT}", ACCEPT),
        (CONNECT, 'limit = { per = "tuple", concurrent = 5 }', "no local port is known yet", '"remote_address"'),
        (CONNECT, 'limit = { per = "remote_address+local_port", concurrent = 5 }', "no local port", '"remote_address"'),
    ],
)
def test_a_limit_that_the_layer_lacks_is_refused(layer: str, body: str, found: str, accepted: str) -> None:
    (told,) = problems_of(body, layer)
    assert (told.line, found in told.found, accepted in told.accepted) == (5, True, True), str(told)


def test_a_permit_bans_and_resets_nobody() -> None:
    told = problems_of('limit = { per = "all", concurrent = 5 }\nban = "10m"\nresponse = "reset"', action="permit")
    assert [(one.line, one.found) for one in told] == [(6, "ban on a permit"), (7, "response on a permit")]


def test_all_that_is_wrong_with_a_limit_is_told_at_once() -> None:
    told = problems_of(
        'limit = { per = [], new = 1.5 }\nban = { for = "1d", up_to = "1h" }\nmonitor = 1\nresponse = "rst"'
    )
    assert [one.line for one in told] == [5, 5, 5, 6, 7, 8]


def test_filters_that_differ_in_their_limit_alone_are_different() -> None:
    one, other = (limit_of(f'limit = {{ per = "all", concurrent = {count} }}') for count in (5, 6))
    assert one != other


def test_a_json_file_says_the_same() -> None:
    table = {"name": "f", "layer": ACCEPT, "action": "block", "limit": {"per": "all", "concurrent": 5}, "ban": "90s"}
    policy = load_text(json.dumps({"filter": [table]}), file="p.json", resolver=RESOLVER).policy
    assert policy.filters[0].limit == Limit(Key(Per.ALL), Counted.CONCURRENT, 5, ban=Ban(90_000))


def test_a_ban_doubles_up_to_its_longest() -> None:
    ban = Ban(600_000, up_to_ms=3_600_000)
    assert [ban.length_ms(repeats) // 60_000 for repeats in (0, 1, 2, 3, 99)] == [10, 20, 40, 60, 60]
    assert Ban(600_000).length_ms(5) == 600_000
