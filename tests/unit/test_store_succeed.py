"""How one policy follows another: ids that stay, ids that are never reused, layers' versions."""

from __future__ import annotations

from dataclasses import replace

from layergate.model import Action, DataType, Filter, Layer, Policy, Sublayer, Value, layer_named
from layergate.store import succeed

CONNECT, LISTEN = layer_named("ALE_AUTH_CONNECT_V4"), layer_named("ALE_AUTH_LISTEN_V4")
BASE = (Sublayer("s", 5), Sublayer("t", 4))


def policy(*filters: Filter, sublayers: tuple[Sublayer, ...] = BASE) -> Policy:
    return Policy(sublayers, tuple(replace(item, id=number) for number, item in enumerate(filters, 1)))


def rule(
    name: str, layer: Layer = CONNECT, action: Action = Action.PERMIT, sublayer: str = "s", **more: object
) -> Filter:
    return replace(Filter(1, name, layer, sublayer, action), **more)


def ids(of: Policy) -> dict[tuple[str, str], int]:
    return {(item.name, item.layer.short): item.id for item in of.filters}


def test_the_first_policy_is_version_1() -> None:
    first = succeed(None, policy(rule("a"), rule("b")))
    assert (first.version, first.layer_versions, first.last_id) == (1, {}, 2)


def test_an_unchanged_policy_keeps_its_ids_and_its_layers_versions() -> None:
    first = succeed(None, policy(rule("a"), rule("b")))
    second = succeed(first, policy(rule("a", line=9), rule("b", description="x")))
    assert (second.version, ids(second), second.layer_versions) == (2, ids(first), {})


def test_a_filter_keeps_its_id_wherever_it_stands_in_the_file() -> None:
    first = succeed(None, policy(rule("a"), rule("b"), rule("c", LISTEN)))
    second = succeed(first, policy(rule("new"), rule("c", LISTEN), rule("b")))
    assert ids(second) == {
        ("new", "ALE_AUTH_CONNECT_V4"): 4,
        ("c", "ALE_AUTH_LISTEN_V4"): 3,
        ("b", "ALE_AUTH_CONNECT_V4"): 2,
    }
    assert second.layer_versions == {CONNECT.id: 2}


def test_an_id_is_never_used_again() -> None:
    first = succeed(None, policy(rule("a"), rule("b")))
    second = succeed(first, policy(rule("a")))
    third = succeed(second, policy(rule("a"), rule("b")))
    assert ids(third)["b", "ALE_AUTH_CONNECT_V4"] == 3
    assert succeed(third, policy()).last_id == 3


def test_another_content_is_another_filter() -> None:
    first = succeed(None, policy(rule("a")))
    for other in (
        rule("a", action=Action.BLOCK),
        rule("a", LISTEN),
        rule("a", sublayer="t"),
        rule("a", weight=Value(DataType.UINT64, 7)),
        rule("a", error=111),
        rule("b"),
    ):
        assert [item.id for item in succeed(first, policy(other)).filters] == [2]


def test_the_version_of_a_layer_is_that_of_its_last_change() -> None:
    first = succeed(None, policy(rule("a"), rule("c", LISTEN)))
    second = succeed(first, policy(rule("a"), rule("d", LISTEN)))
    third = succeed(second, policy(rule("b"), rule("d", LISTEN)))
    assert third.layer_versions == {LISTEN.id: 2, CONNECT.id: 3}
    assert succeed(third, policy(rule("b"))).layer_versions == {LISTEN.id: 4, CONNECT.id: 3}


def test_a_sublayer_s_weight_changes_the_layers_where_it_has_filters() -> None:
    first = succeed(None, policy(rule("a"), rule("c", LISTEN, sublayer="t")))
    second = succeed(first, policy(rule("a"), rule("c", LISTEN, sublayer="t"), sublayers=(BASE[0], Sublayer("t", 9))))
    assert (ids(second), second.layer_versions) == (ids(first), {LISTEN.id: 2})


def test_what_goes_back_is_a_change_again() -> None:
    first = succeed(None, policy(rule("a")))
    second = succeed(first, policy())
    third = succeed(second, policy(rule("a")))
    assert (second.layer_versions, third.layer_versions) == ({CONNECT.id: 2}, {CONNECT.id: 3})


def test_filters_of_one_name_and_content_stay_apart() -> None:
    first = succeed(None, policy(rule("a"), rule("a")))
    assert [item.id for item in succeed(first, policy(rule("a"), rule("a"), rule("a"))).filters] == [1, 2, 3]
