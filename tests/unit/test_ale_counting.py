"""What limits count: concurrent, new and half-open connections, what was tried, bans, fair shares, bounded memory."""

from __future__ import annotations

import random
from collections.abc import Hashable
from ipaddress import ip_address

import pytest

from layergate.ale import Change, Counter, Crossing
from layergate.ale.counting import GIVE_UP_S
from layergate.ale.tallies import OTHERS_MAX
from layergate.engine import classify, in_order
from layergate.model import Action, DataType, Filter, Indication, Layer, Policy, Sublayer, Value, Verdict, layer_named
from layergate.model.limits import Ban, Counted, Key, Limit, Per

ADDRESS = Key(Per.REMOTE_ADDRESS)


def layer(short: str = "ALE_AUTH_RECV_ACCEPT_V4") -> Layer:
    found = layer_named(short)
    assert found is not None
    return found


def limited(limit: Limit, number: int = 1, name: str = "limited") -> Filter:
    return Filter(number, name, layer(), "s", Action.BLOCK, limit=limit)


class Host:
    """A server with limits, and what was told of them."""

    def __init__(self, *limits: Limit) -> None:
        filters = tuple(limited(one, number, f"limit {number}") for number, one in enumerate(limits, 1))
        self.policy = Policy((Sublayer("s", 1),), filters)
        self.ordered = in_order(self.policy)
        self.told: list[Crossing] = []
        self.counter = Counter(self.told.append)

    def decide(self, source: str, flow: Hashable, now: float, port: int = 80) -> Verdict:
        values = {
            "IP_REMOTE_ADDRESS": Value(DataType.UINT32, int(ip_address(source))),
            "IP_LOCAL_PORT": Value(DataType.UINT16, port),
        }
        asking = self.counter.asking(flow, now)
        verdict = classify(self.ordered, Indication(layer(), values), counts=asking)
        asking.settle(verdict.action)
        return verdict

    def opens(self, source: str, flow: Hashable, now: float, port: int = 80) -> bool:
        """Whether a SYN is let in; it becomes a connection at once."""
        is_in = self.decide(source, flow, now, port).action is Action.PERMIT
        if is_in:
            self.counter.established(flow)
        return is_in


def test_five_connections_of_two_periods_are_counted_as_the_documented_example_has_them() -> None:
    opened = {"A": 1, "B": 3, "C": 6, "D": 11, "E": 16}
    closed = {"A": 4, "B": 12, "C": 18, "D": 13, "E": 25}
    wanted_concurrent = {2.0: 1, 3.5: 2, 5.0: 1, 7.0: 2, 11.5: 3, 14.0: 1, 17.0: 2, 19.0: 1}
    wanted_new = {10.0: 3, 12.0: 3, 20.0: 2}
    concurrent, new = (
        limited(Limit(ADDRESS, Counted.CONCURRENT, 100)),
        limited(Limit(ADDRESS, Counted.NEW, 100, 10_000)),
    )
    host = Host(concurrent.limit, new.limit)  # type: ignore[arg-type]
    events = sorted(
        [(time, "opens", name) for name, time in opened.items()]
        + [(time, "closes", name) for name, time in closed.items()]
        + [(time, "looks", "") for time in {*wanted_concurrent, *wanted_new}]
    )
    for time, what, name in events:
        if what == "opens":
            assert host.opens("10.0.0.1", name, time)
        elif what == "closes":
            host.counter.closed(name)
        else:
            indication = Indication(layer(), {"IP_REMOTE_ADDRESS": Value(DataType.UINT32, int(ip_address("10.0.0.1")))})
            first, second = host.policy.filters
            # A standing includes the one that asks.
            held = host.counter.standing(first, indication, "another", time).count - 1
            begun = host.counter.standing(second, indication, "another", time).count - 1
            assert held == wanted_concurrent.get(time, held)
            assert begun == wanted_new.get(time, begun)


def test_the_connection_past_the_limit_is_blocked_and_the_next_one_after_a_close_is_not() -> None:
    host = Host(Limit(ADDRESS, Counted.CONCURRENT, 3))
    assert [host.opens("10.0.0.1", flow, 1) for flow in range(4)] == [True, True, True, False]
    assert host.opens("10.0.0.2", "another source", 1)
    host.counter.closed(0)
    assert host.opens("10.0.0.1", 4, 2)


def test_what_was_blocked_does_not_count_as_new_so_a_source_recovers() -> None:
    host = Host(Limit(ADDRESS, Counted.NEW, 2, 10_000))
    assert [host.opens("10.0.0.1", n, n) for n in range(8)] == [True, True] + [False] * 6
    assert not host.opens("10.0.0.1", "at 9.9", 9.9)
    assert host.opens("10.0.0.1", "at 10", 10)  # the one at 0 has just left the period


def test_half_open_ends_with_establishment_and_with_giving_up() -> None:
    host = Host(Limit(ADDRESS, Counted.HALF_OPEN, 2))
    permitted = [host.decide("10.0.0.1", n, n).action is Action.PERMIT for n in range(3)]
    assert permitted == [True, True, False]
    host.counter.established(0)
    assert host.decide("10.0.0.1", 3, 3).action is Action.PERMIT
    assert host.decide("10.0.0.1", 4, 4).action is Action.BLOCK
    assert host.decide("10.0.0.1", 5, 1 + GIVE_UP_S).action is Action.PERMIT


def test_a_tuple_that_is_used_again_is_given_up_after_its_own_time() -> None:
    host = Host(Limit(ADDRESS, Counted.HALF_OPEN, 1))
    assert host.decide("10.0.0.1", "tuple", 0).action is Action.PERMIT
    host.counter.closed("tuple")
    assert host.decide("10.0.0.1", "tuple", 60).action is Action.PERMIT
    assert host.decide("10.0.0.1", "another", GIVE_UP_S + 1).action is Action.BLOCK
    assert host.decide("10.0.0.1", "another", GIVE_UP_S + 60).action is Action.PERMIT


def test_an_established_connection_is_never_given_up() -> None:
    host = Host(Limit(ADDRESS, Counted.CONCURRENT, 1))
    assert host.opens("10.0.0.1", "long", 0)
    assert not host.opens("10.0.0.1", "second", 10 * GIVE_UP_S)


def test_distinct_ports_are_counted_also_where_the_attempt_is_blocked() -> None:
    host = Host(Limit(ADDRESS, Counted.PORTS, 3, 10_000))
    assert [host.opens("10.0.0.1", n, 0, port=n) for n in (1, 2, 2, 3, 4, 5)] == [True] * 4 + [False] * 2
    assert host.opens("10.0.0.1", "later", 10, port=6)


def test_a_ban_begins_at_the_crossing_and_ends_on_time_and_doubles_for_repeaters() -> None:
    host = Host(Limit(ADDRESS, Counted.NEW, 1, 1000, ban=Ban(10_000, up_to_ms=30_000)))
    assert host.opens("10.0.0.1", 1, 0)
    assert not host.opens("10.0.0.1", 2, 0.5)  # banned until 10.5
    assert not host.opens("10.0.0.1", 3, 10.4)
    assert host.opens("10.0.0.1", 4, 10.5)
    assert not host.opens("10.0.0.1", 5, 10.6)  # for twice as long: until 30.6
    assert not host.opens("10.0.0.1", 6, 30.5)
    assert host.opens("10.0.0.1", 7, 30.6)
    assert not host.opens("10.0.0.1", 8, 30.7)  # no longer than up_to: until 60.7
    assert host.opens("10.0.0.1", 9, 60.7)
    assert [(one.change, one.until) for one in host.told if one.change is Change.BANNED] == [
        (Change.BANNED, 10.5),
        (Change.BANNED, pytest.approx(30.6)),
        (Change.BANNED, pytest.approx(60.7)),
    ]
    assert [one.time for one in host.told if one.change is Change.UNBANNED] == pytest.approx([10.5, 30.6, 60.7])


def test_who_stayed_away_for_as_long_as_he_was_banned_is_no_repeater() -> None:
    host = Host(Limit(ADDRESS, Counted.NEW, 1, 1000, ban=Ban(10_000, up_to_ms=80_000)))
    for start in (0.0, 20.1):  # the ban ends at 10.1, and is forgotten at 20.1
        assert host.opens("10.0.0.1", f"first {start}", start)
        assert not host.opens("10.0.0.1", f"second {start}", start + 0.1)
    bans = [one for one in host.told if one.change is Change.BANNED]
    assert [one.until - one.time for one in bans if one.until] == pytest.approx([10, 10])


def test_a_monitored_limit_tells_and_blocks_nobody() -> None:
    host = Host(Limit(ADDRESS, Counted.CONCURRENT, 1, ban=Ban(1000), monitor=True))
    assert all(host.opens("10.0.0.1", n, n) for n in range(5))
    assert [one.change for one in host.told] == [Change.PAST]


def test_a_total_keeps_out_only_those_who_hold_more_than_their_share() -> None:
    host = Host(Limit(Key(Per.ALL), Counted.CONCURRENT, 10, fair=ADDRESS))
    assert all(host.opens("10.0.0.1", n, 0) for n in range(9))
    assert host.opens("10.0.0.2", "b1", 1)
    # Ten are there. Two share: five each. The first holds nine, the second one.
    assert not host.opens("10.0.0.1", "a10", 2)
    assert host.opens("10.0.0.2", "b2", 2)


def test_prefixes_are_one_source_and_their_name_says_so() -> None:
    host = Host(Limit(Key(Per.REMOTE_PREFIX, 24, 64), Counted.CONCURRENT, 2))
    assert [host.opens(f"10.0.0.{n}", n, 0) for n in (1, 2, 3)] == [True, True, False]
    assert host.opens("10.0.1.1", "next door", 0)
    assert [one.key for one in host.told] == ["10.0.0.0/24"]


def test_the_next_version_of_a_policy_goes_on_with_the_counts() -> None:
    host = Host(Limit(ADDRESS, Counted.CONCURRENT, 2))
    assert host.opens("10.0.0.1", 1, 0)
    host.ordered = in_order(Policy(host.policy.sublayers, host.policy.filters, version=2))
    assert [host.opens("10.0.0.1", n, 1) for n in (2, 3)] == [True, False]


def test_a_hundred_thousand_sources_evict_nobody_who_has_a_connection() -> None:
    host = Host(Limit(ADDRESS, Counted.CONCURRENT, 2))
    behaving = [f"192.0.2.{number}" for number in range(1, 101)]
    for source in behaving:
        assert host.opens(source, source, 0)
    item = host.policy.filters[0]
    for number in range(100_000):
        values = {"IP_REMOTE_ADDRESS": Value(DataType.UINT32, (11 << 24) + number)}
        host.counter.standing(item, Indication(layer(), values), number, 1)
    assert dict(host.counter.held(item)) == dict.fromkeys(behaving, 1)
    assert host.counter.size(item) <= len(behaving) + OTHERS_MAX


def test_what_one_source_tries_is_kept_only_as_far_as_it_shows_that_it_is_past() -> None:
    host = Host(Limit(ADDRESS, Counted.PORTS, 3, 10_000))
    for port in range(1, 1000):
        host.opens("10.0.0.1", port, port / 1000, port)
    (standing,) = (one for _, one in host.decide("10.0.0.1", "last", 1, 5000).sublayers[0].standings)
    assert (standing.count, standing.is_past) == (4, True)


def test_of_bans_the_oldest_is_forgotten_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layergate.ale.tallies.OTHERS_MAX", 3)
    host = Host(Limit(ADDRESS, Counted.NEW, 0, 1000, ban=Ban(60_000)))
    for number in range(1, 6):
        assert not host.opens(f"10.0.0.{number}", number, number)
    until = [host.decide(f"10.0.0.{n}", f"again {n}", 10).sublayers[0].standings[0][1].banned_until for n in (5, 4, 1)]
    assert until == [65, 64, 70]  # the first one's ban was forgotten, and has begun anew


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_a_plain_list_of_connections_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    host = Host(Limit(ADDRESS, Counted.CONCURRENT, 5), Limit(ADDRESS, Counted.NEW, 8, 3000))
    sources = [f"10.0.0.{number}" for number in range(1, 6)]
    alive: dict[int, str] = {}
    admitted: list[tuple[float, str]] = []
    now = 0.0
    for flow in range(3000):
        now += dice.expovariate(20)
        source = dice.choice(sources)
        held = sum(one == source for one in alive.values())
        begun = sum(one == source and time > now - 3 for time, one in admitted)
        is_in = host.opens(source, flow, now)
        assert is_in == (held < 5 and begun < 8)
        if is_in:
            alive[flow] = source
            admitted.append((now, source))
        for gone in [one for one in alive if dice.random() < 0.05]:
            host.counter.closed(gone)
            del alive[gone]


def test_where_nobody_listens_closed_and_ports_are_counted_and_nothing_else() -> None:
    period = 10_000
    host = Host(
        Limit(ADDRESS, Counted.CLOSED, 2, period, monitor=True),
        Limit(ADDRESS, Counted.PORTS, 2, period, monitor=True),
        Limit(ADDRESS, Counted.NEW, 2, period),
    )
    values = {"IP_REMOTE_ADDRESS": Value(DataType.UINT32, int(ip_address("10.0.0.1")))}
    for number in range(5):
        asking = host.counter.asking(f"closed {number}", number, nobody=True)
        at = values | {"IP_LOCAL_PORT": Value(DataType.UINT16, 23)}
        assert classify(host.ordered, Indication(layer(), at), counts=asking).action is Action.PERMIT
    assert [(one.filter.name, one.count, one.time) for one in host.told] == [("limit 1", 3, 2)]
    # The new ones are counted from nothing; and who tries a port that is open is past what was closed all the same.
    assert [host.opens("10.0.0.1", n, 5, port=80) for n in range(3)] == [True, True, False]
    assert not any(one.filter.name == "limit 2" for one in host.told)
    host.opens("10.0.0.1", "third port", 6, port=81)
    assert host.told[-1].filter.name == "limit 2"


def test_a_connection_is_slow_by_what_it_received_within_a_period_that_slides() -> None:
    host = Host(Limit(ADDRESS, Counted.SLOW, over_ms=10_000, grace_ms=5_000, bytes=100, ban=Ban(60_000)))
    assert host.opens("10.0.0.1", "slow", 0)
    assert host.opens("10.0.0.2", "quick", 0)
    assert host.counter.looks
    past = []
    for now in range(30):
        received = {"slow": now, "quick": 20 * now}
        past += [(now, flow) for flow, _ in host.counter.living(lambda flow, had=received: had[flow], now)]  # type: ignore[misc, index]
    assert past == [(15, "slow")]  # from the end of the grace a whole period
    assert [(one.change, one.count, one.limit) for one in host.told] == [(Change.BANNED, 15, 100)]
    assert not host.opens("10.0.0.1", "again", 30)
    host.counter.closed("slow")
    host.counter.closed("quick")
    assert not host.counter.looks


def test_a_connection_is_empty_until_something_comes() -> None:
    host = Host(Limit(Key(Per.TUPLE), Counted.EMPTY, grace_ms=3_000))
    for name in ("silent", "speaks", "ends"):
        assert host.opens("10.0.0.1", name, 0, port={"silent": 1, "speaks": 2, "ends": 3}[name])
    had = {"silent": 0, "speaks": 1, "ends": None}
    assert host.counter.living(lambda flow: had[flow], 2.9) == []  # type: ignore[index]
    assert [flow for flow, _ in host.counter.living(lambda flow: had[flow], 3)] == ["silent"]  # type: ignore[index]
    assert host.counter.living(lambda flow: had[flow], 4) == []  # type: ignore[index]


def test_what_is_not_normal_counts_within_the_period_and_a_connection_is_past_it_once() -> None:
    host = Host(Limit(ADDRESS, Counted.ABNORMAL, 2, 10_000))
    assert host.opens("10.0.0.1", "odd", 0)
    assert [bool(host.counter.abnormal("odd", now)) for now in (1, 2, 12, 13, 14, 15, 23, 24)] == [
        False, False, False, False, True, False, False, True
    ]  # fmt: skip
    assert host.counter.abnormal("unknown", 30) == []


def test_so_many_connections_that_are_not_normal_make_an_attacker() -> None:
    host = Host(Limit(ADDRESS, Counted.ABNORMAL, 0, 10_000, connections=2, ban=Ban(60_000)))
    for number in range(3):
        assert host.opens("10.0.0.1", number, number)
        past = host.counter.abnormal(number, number)
        host.counter.closed(number)
    assert [item.name for item in past] == ["limit 1"]
    assert not host.opens("10.0.0.1", "banned", 3)
    assert host.opens("10.0.0.2", "other", 3)


def test_those_that_share_a_key_are_found_for_a_reset() -> None:
    host = Host(Limit(ADDRESS, Counted.CONCURRENT, 2))
    assert all(host.opens(source, f"{source} {n}", 0) for source in ("10.0.0.1", "10.0.0.2") for n in range(2))
    assert host.counter.sharing_with(host.policy.filters[0], "10.0.0.1 0") == ["10.0.0.1 0", "10.0.0.1 1"]
    assert host.counter.sharing_with(host.policy.filters[0], "nobody") == []
