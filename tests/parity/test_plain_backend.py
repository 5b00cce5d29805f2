"""Reference against the compiled tables in plain Python: random policies from small value pools, that collide."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from layergate.backends.plain import decide
from layergate.compile import compile_policy
from layergate.engine import classify, in_order
from layergate.model import (
    Action,
    AddressMask,
    Condition,
    DataType,
    Filter,
    FilterFlag,
    Indication,
    MatchType,
    Policy,
    Range,
    Sublayer,
    Value,
    layer_named,
)
from layergate.model.values import EMPTY

V4, V6 = layer_named("ALE_AUTH_RECV_ACCEPT_V4"), layer_named("ALE_AUTH_RECV_ACCEPT_V6")
assert V4 is not None
assert V6 is not None
SUBLAYERS = (Sublayer("low", 10), Sublayer("high", 900), Sublayer("middle", 100))
ORDER = [
    MatchType.EQUAL,
    MatchType.NOT_EQUAL,
    MatchType.GREATER,
    MatchType.LESS,
    MatchType.GREATER_OR_EQUAL,
    MatchType.LESS_OR_EQUAL,
]
FLAGS = [MatchType.FLAGS_ALL_SET, MatchType.FLAGS_ANY_SET, MatchType.FLAGS_NONE_SET]


def ints(kind: DataType, *pool: int) -> st.SearchStrategy[Value]:
    return st.sampled_from([Value(kind, number) for number in pool])


PORTS = ints(DataType.UINT16, 0, 1, 80, 443, 65535)
V4_ADDRESSES = ints(DataType.UINT32, 0, 0x0A000001, 0x0A0000FF, 0x7F000001, 0xFFFFFFFF)
V6_ADDRESSES = st.sampled_from(
    [Value(DataType.BYTE_ARRAY16, number.to_bytes(16, "big")) for number in (0, 1, 0xFE80 << 112, (1 << 128) - 1)]
)
USERS = ints(DataType.UINT32, 0, 1000)
APPS = st.sampled_from([Value(DataType.BYTE_BLOB, path) for path in (b"/a", b"/b", b"/c")])
UNITS = st.sampled_from([Value(DataType.SID, unit) for unit in ("a.service", "/b")])
BITS = ints(DataType.UINT32, 1, 4, 5)


def ranges(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    def spanned(pair: tuple[Value, Value]) -> Value:
        low, high = sorted(pair, key=lambda value: value.data)  # type: ignore[arg-type, return-value]
        return Value(DataType.RANGE, Range(low, high))

    return st.tuples(values, values).map(spanned)


def comparing(name: str, values: st.SearchStrategy[Value], how: list[MatchType]) -> st.SearchStrategy[Condition]:
    return st.builds(Condition, st.just(name), st.sampled_from(how), values)


def masks(kind: DataType, bits: int, pool: list[int]) -> st.SearchStrategy[Condition]:
    widths = st.sampled_from([0, 8, bits // 2, bits])
    value = st.builds(
        lambda address, width: Value(kind, AddressMask(address, ((1 << width) - 1) << bits - width)),
        st.sampled_from(pool),
        widths,
    )
    return comparing("IP_REMOTE_ADDRESS", value, [MatchType.EQUAL, MatchType.NOT_EQUAL])


def spans(name: str, values: st.SearchStrategy[Value]) -> st.SearchStrategy[Condition]:
    return comparing(name, ranges(values), [MatchType.RANGE])


EITHER = [MatchType.EQUAL, MatchType.NOT_EQUAL]


def conditions(*, v6: bool) -> st.SearchStrategy[tuple[Condition, ...]]:
    addresses = V6_ADDRESSES if v6 else V4_ADDRESSES
    kind, bits = (DataType.V6_ADDR_MASK, 128) if v6 else (DataType.V4_ADDR_MASK, 32)
    pool = [0, 1, 0xFE80 << 112] if v6 else [0, 0x0A000001, 0x7F000001]
    of_field = [
        st.one_of(comparing("IP_REMOTE_PORT", PORTS, ORDER), spans("IP_REMOTE_PORT", PORTS)),
        st.one_of(
            comparing("IP_REMOTE_ADDRESS", addresses, ORDER),
            spans("IP_REMOTE_ADDRESS", addresses),
            masks(kind, bits, pool),
        ),
        comparing("ALE_APP_ID", APPS, EITHER),
        comparing("ALE_USER_ID", USERS, EITHER),
        comparing("ALE_PACKAGE_ID", UNITS, EITHER),
        st.one_of(
            comparing("FLAGS", BITS, FLAGS),
            st.just(Condition("FLAGS", MatchType.EQUAL, Value(DataType.V4_ADDR_MASK, AddressMask(1, 5)))),
        ),
        st.just(Condition("IP_LOCAL_PORT", MatchType.EQUAL, EMPTY)),
    ]
    runs = st.tuples(*(st.lists(field, max_size=2) for field in of_field))
    return runs.map(lambda fields: tuple(one for run in fields for one in run))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    filters = []
    for number in range(1, draw(st.integers(0, 8)) + 1):
        layer = draw(st.sampled_from([V4, V6]))
        action = draw(st.sampled_from([Action.PERMIT, Action.BLOCK]))
        hard = action is Action.PERMIT and draw(st.booleans())
        filters.append(
            Filter(
                id=number,
                name=f"filter {number}",
                layer=layer,
                sublayer=draw(st.sampled_from(SUBLAYERS)).name,
                action=action,
                conditions=draw(conditions(v6=layer is V6)),
                weight=draw(st.sampled_from([EMPTY, Value(DataType.UINT8, 3), Value(DataType.UINT64, 7)])),
                flags=FilterFlag.CLEAR_ACTION_RIGHT if hard else FilterFlag.NONE,
            )
        )
    return Policy(SUBLAYERS, tuple(filters))


def values(*, v6: bool) -> st.SearchStrategy[dict[str, Value]]:
    fields = {
        "IP_REMOTE_PORT": PORTS,
        "IP_REMOTE_ADDRESS": V6_ADDRESSES if v6 else V4_ADDRESSES,
        "ALE_APP_ID": APPS,
        "ALE_USER_ID": USERS.map(lambda value: Value(DataType.TOKEN_ACCESS_INFORMATION, value.data)),
        "ALE_PACKAGE_ID": UNITS,
        "FLAGS": BITS,
        "IP_LOCAL_PORT": PORTS,
    }
    return st.fixed_dictionaries({}, optional=fields)


@settings(max_examples=150)
@given(
    policies(), st.lists(values(v6=False), min_size=5, max_size=5), st.lists(values(v6=True), min_size=5, max_size=5)
)
def test_the_tables_decide_as_the_engine_does(
    policy: Policy, asked_v4: list[dict[str, Value]], asked_v6: list[dict[str, Value]]
) -> None:
    ordered, compiled = in_order(policy), compile_policy(policy)
    for layer, asked in ((V4, asked_v4), (V6, asked_v6)):
        for known in asked:
            verdict = classify(ordered, Indication(layer, known))
            assert decide(compiled, layer, known) == (verdict.action, verdict.filter.id if verdict.filter else 0)
