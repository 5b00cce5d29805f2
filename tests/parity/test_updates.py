"""After every add, remove and change the patched tables decide as the engine does, and are not built anew."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from bench.rulesets import Ruleset
from layergate.backends import plain
from layergate.compile import Compiled, compile_policy
from layergate.compile.updates import FRESH_MAX
from layergate.engine import classify, in_order
from layergate.model import Action, Condition, DataType, Filter, Indication, Layer, MatchType, Policy, Value
from layergate.model.catalogue import LAYERS
from tests.parity.drawn import Drawn

SCALE = int(os.environ.get("LAYERGATE_PARITY", "1"))


def differences(compiled: Compiled, policy: Policy, layer: Layer, asked: list[dict[str, object]]) -> list[str]:
    ordered = in_order(policy)
    found = []
    for values in asked:
        indication = Indication(layer, values)  # type: ignore[arg-type]
        wanted, got = classify(ordered, indication), plain.classify(compiled, indication)
        decided = {one.sublayer.name: one.decided.id for one in wanted.sublayers if one.decided}
        if (wanted.action, wanted.filter.id if wanted.filter else 0, decided) != (
            got.action,
            got.filter_id,
            got.decided,
        ):
            found.append(f"version {policy.version} {values}: engine {wanted.filter} {decided}, tables {got}")
    return found


def changed(filters: list[Filter], gone: list[Filter], dice: random.Random) -> None:
    """Remove a filter or a few, add some back, change one, in place."""
    gone += [filters.pop(dice.randrange(len(filters))) for _ in range(min(len(filters), dice.choice((1, 1, 2, 4))))]
    filters += [gone.pop(dice.randrange(len(gone))) for _ in range(min(len(gone), dice.choice((0, 1, 3))))]
    if filters and dice.random() < 0.3:
        place = dice.randrange(len(filters))
        action = Action.BLOCK if filters[place].action is Action.PERMIT else Action.PERMIT
        filters[place] = replace(filters[place], action=action)


@pytest.mark.parametrize("seed", range(60 * SCALE))
def test_a_drawn_set_that_changes_is_decided_as_by_the_engine(seed: int) -> None:
    dice = random.Random(f"updates {seed}")
    layer = dice.choice([one for one in LAYERS if one.fields])
    drawn = Drawn(layer, dice, dice.choice((5, 40, 120)), sublayer_count=dice.choice((1, 3)), is_simple=True)
    policy = drawn.policy()
    asked = [drawn.indication(policy) for _ in range(60)]
    filters, gone = list(policy.filters), []
    compiled = compile_policy(policy)
    for version in range(2, 9):
        changed(filters, gone, dice)
        policy = replace(policy, filters=tuple(filters), version=version)
        compiled = compile_policy(policy, compiled)
        assert differences(compiled, policy, layer, asked) == []  # type: ignore[arg-type]


def test_one_filter_more_or_less_leaves_the_trees_as_they_are() -> None:
    policy = Ruleset("fw", 3000).policy()
    before = compile_policy(policy)
    layer = policy.filters[0].layer
    less = compile_policy(replace(policy, filters=policy.filters[:1500] + policy.filters[1501:]), before)
    more = compile_policy(policy, less)
    tables = [one.tables[layer.id] for one in (before, less, more)]
    assert [one.built_steps for one in tables] == [tables[0].built_steps] * 3
    assert policy.filters[1500].id in more.tables[layer.id].fresh
    assert len(tables[2].steps) < len(tables[0].steps) + 4 * FRESH_MAX * 12


def test_a_layer_whose_filters_stay_keeps_its_table() -> None:
    first, second = Ruleset("acl", 50), Ruleset("acl", 50, 6)
    policy = Policy(first.policy().sublayers, first.filters())
    before = compile_policy(policy)
    others = tuple(replace(item, id=item.id + 1000) for item in second.filters())
    after = compile_policy(replace(policy, filters=policy.filters + others), before)
    assert after.tables[first.layer.id] is before.tables[first.layer.id]


def test_more_names_than_the_trees_have_room_for_build_them_anew() -> None:
    layer = Ruleset("acl", 1).layer

    def naming(number: int) -> Filter:
        value = Value(DataType.BYTE_BLOB, b"/bin/%d" % number)
        return Filter(number, "", layer, "s0", Action.BLOCK, (Condition("ALE_APP_ID", MatchType.EQUAL, value),))

    other = next(one for one in LAYERS if one.short == "ALE_AUTH_CONNECT_V4")
    few = tuple(naming(number) for number in range(1, 40))
    many = tuple(replace(naming(number), layer=other) for number in range(40, 1000))
    policy = Policy(Ruleset("acl", 1).policy().sublayers, few)
    before = compile_policy(policy)
    after = compile_policy(replace(policy, filters=few + many), before)
    assert after.names.top("ALE_APP_ID") > before.names.top("ALE_APP_ID")
    assert after.tables[layer.id] is not before.tables[layer.id]
    for number in (1, 39, 40, 999):
        values = {"ALE_APP_ID": Value(DataType.BYTE_BLOB, b"/bin/%d" % number)}
        found = [plain.decide(after, one, values)[1] for one in (layer, other)]
        assert found == ([number, 0] if number < 40 else [0, number])
