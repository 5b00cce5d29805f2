"""Filters with limits: the tables in plain Python against the reference, whatever the counts are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from layergate.backends.plain import classify as by_tables
from layergate.compile import compile_policy
from layergate.engine import classify, in_order
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    Indication,
    MatchType,
    Policy,
    Sublayer,
    Value,
    layer_named,
)
from layergate.model.limits import Counted, Key, Limit, Per, Standing

V4 = layer_named("ALE_AUTH_RECV_ACCEPT_V4")
assert V4 is not None
SUBLAYERS = (Sublayer("high", 900), Sublayer("low", 10))
PORTS = (22, 80, 443)


class Counted4:
    """Who counts as a test says, by filter id; notes who was asked."""

    def __init__(self, counts: dict[int, int]) -> None:
        self.counts = counts
        self.asked: list[int] = []

    def standing(self, item: Filter, indication: Indication) -> Standing:
        del indication
        assert item.limit is not None
        self.asked.append(item.id)
        count = self.counts.get(item.id, 0)
        return Standing(count, item.limit.count, count > item.limit.count)


@st.composite
def filters(draw: st.DrawFn) -> tuple[Filter, ...]:
    made = []
    for number in range(1, draw(st.integers(1, 14)) + 1):
        ports = draw(st.lists(st.sampled_from(PORTS), max_size=2, unique=True))
        limit = None
        if draw(st.booleans()):
            limit = Limit(Key(Per.REMOTE_ADDRESS), Counted.CONCURRENT, 5, monitor=draw(st.booleans()))
        made.append(
            Filter(
                number,
                f"filter {number}",
                V4,
                draw(st.sampled_from(SUBLAYERS)).key,
                draw(st.sampled_from((Action.PERMIT, Action.BLOCK))),
                tuple(Condition("IP_LOCAL_PORT", MatchType.EQUAL, Value(DataType.UINT16, one)) for one in ports),
                flags=draw(st.sampled_from((FilterFlag.NONE, FilterFlag.CLEAR_ACTION_RIGHT))),
                limit=limit,
            )
        )
    return tuple(made)


@settings(max_examples=400, deadline=None)
@given(filters(), st.dictionaries(st.integers(1, 14), st.integers(0, 9)), st.sampled_from((*PORTS, 99)))
def test_tables_and_reference_ask_the_same_limits_and_say_the_same(
    made: tuple[Filter, ...], counts: dict[int, int], port: int
) -> None:
    policy = Policy(SUBLAYERS, made)
    indication = Indication(V4, {"IP_LOCAL_PORT": Value(DataType.UINT16, port)})
    reference, tables = Counted4(counts), Counted4(counts)
    wanted = classify(in_order(policy), indication, counts=reference)
    got = by_tables(compile_policy(policy), indication, counts=tables)
    assert (got.action, got.filter_id) == (wanted.action, wanted.filter.id if wanted.filter else 0)
    assert got.hard == wanted.hard
    assert tables.asked == reference.asked
