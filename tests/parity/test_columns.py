"""The columns against the interpreter, which is compared with the reference in test_tables.py: filter by filter."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence

import pytest

from bench.rulesets import FLAVOURS, HEADERS, Ruleset
from layergate.backends import plain
from layergate.compile import Compiled, compile_policy
from layergate.model import (
    Action,
    Condition,
    Filter,
    Indication,
    InputError,
    Layer,
    NotSupportedError,
    Policy,
    Sublayer,
    Value,
)
from layergate.model.catalogue import LAYERS
from tests.parity.drawn import Drawn, possible

np = pytest.importorskip("numpy")
pytest.importorskip("numba", reason="the extra `columns` is not installed")
columns = pytest.importorskip("layergate.backends.columns")
batches = pytest.importorskip("tests.parity.batches")

SCALE = int(os.environ.get("LAYERGATE_PARITY", "1"))
LAYERS_WITH_FIELDS = [layer for layer in LAYERS if layer.fields]


def differences(compiled: Compiled, layer: Layer, asked: Sequence[Mapping[str, Value]]) -> list[str]:
    made, present = batches.batch(layer, asked)
    got = columns.Columns(compiled).decide(layer, made, present=present, count=len(asked))
    found = []
    for row, values in enumerate(asked):
        wanted = plain.classify(compiled, Indication(layer, values))
        decided = {name: int(one) for name, one in zip(got.sublayers, got.decided[row], strict=True) if one}
        told = (
            Action.BLOCK if got.action[row] == columns.BLOCK else Action.PERMIT,
            int(got.filter_id[row]),
            bool(got.hard[row]),
            decided,
        )
        if told != (wanted.action, wanted.filter_id, wanted.hard, wanted.decided):
            found.append(f"{layer.short} {dict(values)}: plain {wanted}, columns {told}")
    return found


@pytest.mark.parametrize("seed", range(60 * SCALE))
def test_a_drawn_set_is_decided_by_the_columns_as_by_the_interpreter(seed: int) -> None:
    dice = random.Random(f"columns {seed}")
    layer = dice.choice(LAYERS_WITH_FIELDS)
    drawn = Drawn(layer, dice, dice.choice((1, 20, 60, 150)), sublayer_count=dice.choice((1, 2, 4)), is_simple=True)
    policy = drawn.policy()
    assert differences(compile_policy(policy), layer, [drawn.indication(policy) for _ in range(300)]) == []


def test_every_layer_field_and_match_type_has_a_case() -> None:
    """One filter each, in a sublayer of its own; what columns can't hold (SIDs of a token) is not met by a number."""
    without = {(layer.short, of.name, how) for layer in LAYERS for of in layer.fields for how in possible(of)}
    for layer in LAYERS_WITH_FIELDS:
        dice = random.Random(layer.short)
        cases = [(of, how, dice.choice(found)) for of in layer.fields for how, found in possible(of).items()]
        for start in range(0, len(cases), 200):
            part = cases[start : start + 200]
            sublayers = tuple(Sublayer(f"{number}", 1000 - number) for number in range(len(part)))
            filters = tuple(
                Filter(number + 1, f"{of.name} {how.name}", layer, f"{number}", Action.PERMIT, (one,))
                for number, (of, how, one) in enumerate(part)
            )
            policy = Policy(sublayers, filters)
            drawn = Drawn(layer, dice, 0, is_simple=True)
            asked = [drawn.indication(policy) for _ in range(16)]
            assert differences(compile_policy(policy), layer, asked) == []
            without -= {(layer.short, of.name, how) for of, how, _ in part}
    assert not without


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("family, sublayers", [(4, 1), (4, 4), (6, 1)])
def test_a_set_of_a_firewall_is_decided_by_the_columns_as_by_the_interpreter(
    flavour: str, family: int, sublayers: int
) -> None:
    rules = Ruleset(flavour, 2000, family, sublayers)
    compiled = compile_policy(rules.policy())
    for kind in HEADERS:
        asked = [rules.values(header) for header in rules.headers(kind, 2000 * SCALE)]
        assert differences(compiled, rules.layer, asked) == []


def test_columns_of_different_lengths_are_refused_with_their_lengths() -> None:
    rules = Ruleset("acl", 10)
    ragged = {"IP_REMOTE_PORT": np.zeros(3, np.uint16), "IP_PROTOCOL": np.zeros(2, np.uint8)}
    with pytest.raises(InputError, match="IP_REMOTE_PORT 3, IP_PROTOCOL 2"):
        columns.Columns(compile_policy(rules.policy())).decide(rules.layer, ragged)


def test_a_column_of_the_wrong_shape_is_refused_with_what_is_wanted() -> None:
    rules = Ruleset("acl", 10, 6)
    flat = {"IP_REMOTE_ADDRESS": np.zeros(3, np.uint64)}
    with pytest.raises(InputError, match=r"IP_REMOTE_ADDRESS of shape \(3,\); uint64\[n, 2\]"):
        columns.Columns(compile_policy(rules.policy())).decide(rules.layer, flat)


def test_a_callout_is_refused_by_name() -> None:
    layer = LAYERS_WITH_FIELDS[0]
    asking = Filter(1, "asks", layer, "one", Action.CALLOUT_TERMINATING, callout="c")
    conditions: tuple[Condition, ...] = ()
    policy = Policy((Sublayer("one", 1),), (asking, Filter(2, "plain", layer, "one", Action.BLOCK, conditions)))
    compiled = compile_policy(policy, callouts={"c": lambda _: None})
    with pytest.raises(NotSupportedError, match="filter 'asks'"):
        columns.Columns(compiled).decide(layer, {}, count=1)
