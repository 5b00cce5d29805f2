"""What would turn a verdict, and what it hangs on where something can't be decided here."""

from __future__ import annotations

from layergate.analysis.outcomes import Change, DependenceKind, changes, dependences, undecidable
from layergate.engine import NO_CALLOUTS, Callouts, classify, in_order, unasked
from layergate.engine.explanation import account
from layergate.model import (
    Action,
    Condition,
    DataType,
    Filter,
    Indication,
    MatchType,
    Policy,
    Sublayer,
    Token,
    Value,
    layer_named,
)

LAYER = layer_named("ALE_AUTH_CONNECT_V4")
P, B = Action.PERMIT, Action.BLOCK
SUBLAYERS = (Sublayer("high", 9), Sublayer("low", 1))


def port(number: int) -> Value:
    return Value(DataType.UINT16, number)


def equal(field: str, value: Value) -> Condition:
    return Condition(field, MatchType.EQUAL, value)


TCP = equal("IP_PROTOCOL", Value(DataType.UINT8, 6))
SERVICE = equal("ALE_USER_ID", Value(DataType.SECURITY_DESCRIPTOR, "D:(A;;CC;;;S-1-5-80-1)"))
PACKAGE = Condition("ALE_PACKAGE_ID", MatchType.NOT_EQUAL, Value(DataType.SID, "S-1-0-0"))


def policy(*rows: tuple[str, Action, tuple[Condition, ...]], callout: str = "") -> Policy:
    return Policy(
        SUBLAYERS,
        tuple(
            Filter(
                number,
                f"f{number}",
                LAYER,
                sublayer,
                action,
                conditions,
                Value(DataType.UINT64, 100 - number),
                callout=callout if action.is_callout else "",
            )
            for number, (sublayer, action, conditions) in enumerate(rows, 1)
        ),
    )


def asked(**values: Value) -> Indication:
    return Indication(LAYER, values)


def turned(of: Policy, indication: Indication) -> list[tuple[dict[str, Value], int]]:
    ordered = in_order(of)
    verdict = classify(ordered, indication)
    found: tuple[Change, ...] = changes(ordered, indication, verdict, account(ordered, indication, verdict))
    for change in found:
        assert change.verdict.action is not verdict.action
    return [(dict(change.values), change.filter.id) for change in found]


def test_the_smallest_change_comes_first() -> None:
    rules = policy(
        ("high", P, (equal("IP_REMOTE_PORT", port(80)), TCP)),
        ("high", P, (equal("IP_REMOTE_PORT", port(443)),)),
        ("high", P, (equal("IP_REMOTE_PORT", port(25)), equal("IP_LOCAL_PORT", port(9)), SERVICE)),
        ("low", B, ()),
    )
    assert turned(rules, asked(IP_REMOTE_PORT=port(440))) == []  # a soft permit above does not help
    rules = policy(
        ("high", P, (equal("IP_REMOTE_PORT", port(80)), TCP)),
        ("high", P, (equal("IP_REMOTE_PORT", port(443)),)),
        ("high", B, ()),
    )
    assert turned(rules, asked(IP_REMOTE_PORT=port(440))) == [
        ({"IP_REMOTE_PORT": port(443)}, 2),
        ({"IP_REMOTE_PORT": port(80), "IP_PROTOCOL": Value(DataType.UINT8, 6)}, 1),
    ]


def test_where_the_filter_that_decided_would_not_match() -> None:
    rules = policy(("high", P, (equal("IP_REMOTE_PORT", port(80)),)), ("high", B, ()))
    assert turned(rules, asked(IP_REMOTE_PORT=port(80))) == [({"IP_REMOTE_PORT": port(79)}, 1)]


def hung(of: Policy, indication: Indication, callouts: Callouts = NO_CALLOUTS) -> list[tuple[str, list[int], Action]]:
    ordered = in_order(of)
    assumed = undecidable(ordered, indication)
    found = dependences(ordered, indication, assumed, callouts)
    return [(str(one.kind), [item.id for item in one.filters], one.verdict.action) for one in found]


def test_a_filter_for_a_token_is_named_with_the_outcome_either_way() -> None:
    rules = policy(("high", P, (SERVICE,)), ("high", P, (SERVICE, TCP)), ("high", B, ()))
    indication = asked(IP_PROTOCOL=Value(DataType.UINT8, 17))
    ordered = in_order(rules)
    assumed = undecidable(ordered, indication)
    assert assumed == {SERVICE: False}
    assert classify(ordered, indication, assumed=assumed).action is B
    # The second filter misses at the protocol whatever the token is.
    assert hung(rules, indication) == [("token", [1], P)]


def test_two_tests_of_one_filter_are_taken_together() -> None:
    rules = policy(("high", P, (SERVICE, PACKAGE)), ("high", B, ()))
    assert hung(rules, asked()) == [("token", [1], P)]


def test_a_token_that_is_known_leaves_nothing_open() -> None:
    rules = policy(("high", P, (SERVICE,)), ("high", B, ()))
    holds = asked(ALE_USER_ID=Value(DataType.TOKEN_ACCESS_INFORMATION, Token(frozenset({"S-1-5-80-1"}))))
    assert hung(rules, holds) == []
    assert classify(in_order(rules), holds).action is P


def test_a_callout_is_named_with_what_its_block_would_do() -> None:
    rules = policy(
        ("high", Action.CALLOUT_TERMINATING, (TCP,)),
        ("high", Action.CALLOUT_INSPECTION, ()),
        ("low", P, ()),
        callout="{c}",
    )
    callouts = {"{c}": unasked}
    assert hung(rules, asked(IP_PROTOCOL=Value(DataType.UINT8, 6)), callouts) == [("callout", [1, 2], B)]
    # Where only the inspection matches, nothing hangs on it.
    assert hung(rules, asked(), callouts) == []
    assert DependenceKind.CALLOUT == "callout"
