"""Tables made in machine code are those made in plain Python, bit for bit; so are entries made the short way."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bench.rulesets import FLAVOURS, Ruleset
from layergate.compile import Compiled, compile_policy, compiler, entries
from layergate.model import Policy
from tests.parity.drawn import Drawn
from tests.parity.test_tables import LAYERS_WITH_FIELDS, SCALE

native = pytest.importorskip("layergate.compile.native", reason="Numba is not installed", exc_type=ImportError)

NEVER = 1 << 62


def content(made: Compiled) -> list[Any]:
    """All that a table is, but for what says how it was made."""
    return [
        (one.steps, one.root, one.rows, one.trees, one.hides, one.walk_max, [gone.filter.id for gone in one.removed])
        for _, one in sorted(made.tables.items())
    ]


def both(policy: Policy, drawn: Drawn | None, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    made = []
    callouts = drawn.registered if drawn else {}
    for least in (NEVER, 1):
        monkeypatch.setattr(compiler, "NATIVE_FROM", least)
        monkeypatch.setattr(compiler, "NATIVE_ALONE_FROM", least)
        made.append(content(compile_policy(policy, callouts=callouts)))
    return made[0], made[1]


def drawn_set(seed: str) -> tuple[Policy, Drawn]:
    dice = random.Random(seed)
    drawn = Drawn(
        dice.choice(LAYERS_WITH_FIELDS), dice, dice.choice((1, 5, 60, 400)), sublayer_count=dice.choice((1, 2, 4))
    )
    return drawn.policy(), drawn


@pytest.mark.parametrize("seed", range(40 * SCALE))
def test_a_drawn_set(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, compiled = both(*drawn_set(f"native {seed}"), monkeypatch)
    assert plain == compiled


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("family, sublayers", [(4, 1), (4, 4), (6, 1), (6, 3)])
def test_a_set_of_a_firewall(flavour: str, family: int, sublayers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, compiled = both(Ruleset(flavour, 1500, family, sublayers).policy(), None, monkeypatch)
    assert plain == compiled


@pytest.mark.parametrize("seed", range(60 * SCALE))
def test_what_is_a_box_as_it_stands_is_the_same_box_when_looked_at_closely(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, drawn = drawn_set(f"plain {seed}")
    shortly = content(compile_policy(policy, callouts=drawn.registered))
    monkeypatch.setattr(entries, "_plain", lambda *_: None)
    assert content(compile_policy(policy, callouts=drawn.registered)) == shortly
