"""The reference against the tables: filter by filter, sublayer by sublayer, over every layer, field and match type."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bench.rulesets import FLAVOURS, HEADERS, Ruleset
from layergate.backends import plain
from layergate.compile import compile_policy
from layergate.engine import NO_CALLOUTS, Callouts, classify, in_order
from layergate.engine.callouts import unasked
from layergate.model import Action, Filter, Indication, Layer, MatchType, Policy, Sublayer, Value
from layergate.model.catalogue import LAYERS
from layergate.windows import load_file
from tests.parity.drawn import Drawn, possible

SCALE = int(os.environ.get("LAYERGATE_PARITY", "1"))
SUBLAYERS = 200
LAYERS_WITH_FIELDS = [layer for layer in LAYERS if layer.fields]


def differences(
    policy: Policy, asked: list[tuple[Layer, Mapping[str, Value]]], callouts: Callouts = NO_CALLOUTS
) -> list[str]:
    """Return where the tables of *policy* decide otherwise than the engine, as lines."""
    ordered, compiled = in_order(policy), compile_policy(policy, callouts=callouts)
    found = []
    for layer, values in asked:
        indication = Indication(layer, values)
        wanted = classify(ordered, indication, callouts=callouts)
        got = plain.classify(compiled, indication, callouts=callouts)
        decided = {one.sublayer.name: one.decided.id for one in wanted.sublayers if one.decided}
        told = (wanted.action, wanted.filter.id if wanted.filter else 0, wanted.hard, decided)
        if told != (got.action, got.filter_id, got.hard, got.decided):
            found.append(f"{layer.short} {dict(values)}: engine {told}, tables {got}")
    return found


@pytest.mark.parametrize("seed", range(150 * SCALE))
def test_a_drawn_set_is_decided_by_the_tables_as_by_the_engine(seed: int) -> None:
    dice = random.Random(f"tables {seed}")
    layer = dice.choice(LAYERS_WITH_FIELDS)
    drawn = Drawn(layer, dice, dice.choice((1, 5, 20, 60, 150)), sublayer_count=dice.choice((1, 2, 4)))
    policy = drawn.policy()
    asked = [(layer, drawn.indication(policy)) for _ in range(150)]
    assert differences(policy, asked, drawn.registered) == []


def test_every_layer_field_and_match_type_has_a_case() -> None:
    """A filter for each, in a sublayer of its own, so that each is compared; the list of those without is empty."""
    without = {(layer.short, of.name, how) for layer in LAYERS for of in layer.fields for how in possible(of)}
    total = len(without)
    for layer in LAYERS_WITH_FIELDS:
        dice = random.Random(layer.short)
        cases = [(of, how, dice.choice(found)) for of in layer.fields for how, found in possible(of).items()]
        for start in range(0, len(cases), SUBLAYERS):
            part = cases[start : start + SUBLAYERS]
            sublayers = tuple(Sublayer(f"{number}", 1000 - number) for number in range(len(part)))
            filters = tuple(
                Filter(number + 1, f"{of.name} {how.name}", layer, f"{number}", Action.PERMIT, (one,))
                for number, (of, how, one) in enumerate(part)
            )
            policy = Policy(sublayers, filters)
            drawn = Drawn(layer, dice, 0)
            assert differences(policy, [(layer, drawn.indication(policy)) for _ in range(16)]) == []
            without -= {(layer.short, of.name, how) for of, how, _ in part}
    assert not without
    assert total > 10_000


def test_the_match_types_are_all_there() -> None:
    assert {how for layer in LAYERS for of in layer.fields for how in possible(of)} == set(MatchType) - {
        MatchType.EQUAL_CASE_INSENSITIVE  # no layer has a field that is a text
    }


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("family, sublayers", [(4, 1), (4, 4), (6, 1), (6, 3)])
def test_a_set_of_a_firewall_is_decided_by_the_tables_as_by_the_engine(
    flavour: str, family: int, sublayers: int
) -> None:
    rules = Ruleset(flavour, 400, family, sublayers)
    asked = [(rules.layer, rules.values(header)) for kind in HEADERS for header in rules.headers(kind, 60 * SCALE)]
    assert differences(rules.policy(), asked) == []


@pytest.mark.parametrize("name", ["filters-2026.xml", "wfpstate-2024.xml"])
def test_a_dump_of_a_windows_host_is_decided_by_the_tables_as_by_the_engine(name: str, shared_dir: Path) -> None:
    policy = load_file(str(shared_dir / "windows" / name)).policy
    callouts = {item.callout: unasked for item in policy.filters if item.callout}
    dice = random.Random(name)
    asked = []
    for layer in dict.fromkeys(item.layer for item in policy.filters):
        here = replace(policy, filters=tuple(item for item in policy.filters if item.layer is layer))
        drawn = Drawn(layer, dice, 0)
        asked += [(layer, drawn.indication(here)) for _ in range(40 * SCALE)]
    assert differences(policy, asked, callouts) == []
