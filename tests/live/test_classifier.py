"""The kernel's classifier by test runs, against the interpreter: filter id by filter id, both ways to walk."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.rulesets import FLAVOURS, HEADERS, Ruleset
from bench.testrun import KernelClassifier
from layergate.backends import plain
from layergate.compile import Compiled, compile_policy
from layergate.kernel.hooks import HOOKS
from layergate.kernel.tables import require
from layergate.model import Action, Indication, Layer, NotSupportedError, Value, layers_named
from tests.parity.drawn import Drawn

pytestmark = pytest.mark.live
NUMBER = {Action.PERMIT: 1, Action.BLOCK: 2}


@pytest.fixture(scope="module", params=[True, False], ids=["iterator", "bpf_loop"])
def kernel(request: pytest.FixtureRequest) -> Iterator[KernelClassifier]:
    with KernelClassifier(iterates=request.param) as classifier:
        yield classifier


def differences(kernel: KernelClassifier, compiled: Compiled, layer: Layer, asked: list[dict[str, Value]]) -> list[str]:
    kernel.put(compiled)
    found = []
    for values, got in zip(asked, kernel.decide(compiled, layer, asked), strict=True):
        wanted = plain.classify(compiled, Indication(layer, values))
        if got != (NUMBER[wanted.action], wanted.filter_id, wanted.hard):
            found.append(f"{layer.short} {values}: interpreter {wanted}, kernel {got}")
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_drawn_set_is_decided_by_the_kernel_as_by_the_interpreter(kernel: KernelClassifier, seed: int) -> None:
    """Every hook in turn; then with filters fewer and more."""
    dice = random.Random(f"kernel {seed}")
    hook = HOOKS[seed % len(HOOKS)]
    layer = layers_named(hook.layer)[seed // len(HOOKS) % 2]
    drawn = Drawn(
        layer, dice, dice.choice((5, 40, 120)), kernel_fields=hook.fields, sublayer_count=dice.choice((1, 4, 12)),
        is_simple=True,
    )  # fmt: skip
    policy = drawn.policy()
    kept = []
    for item in policy.filters:  # what the kernel can't have is refused by name: test_kernel_tables.py
        try:
            require(compile_policy(replace(policy, filters=(item,))))
        except NotSupportedError:
            continue
        kept.append(item)
    asked = [drawn.indication(policy) for _ in range(600)]
    before = None
    for part in (kept, kept[: len(kept) // 2], kept[1:]):
        before = compile_policy(replace(policy, filters=tuple(part)), before)
        assert differences(kernel, before, layer, asked) == []


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("family, sublayers", [(4, 1), (4, 4), (6, 1)])
def test_a_set_of_a_firewall_is_decided_by_the_kernel_as_by_the_interpreter(
    kernel: KernelClassifier, flavour: str, family: int, sublayers: int
) -> None:
    rules = Ruleset(flavour, 2000, family, sublayers)
    compiled = compile_policy(rules.policy())
    for kind in HEADERS:
        assert (
            differences(kernel, compiled, rules.layer, [rules.values(one) for one in rules.headers(kind, 2000)]) == []
        )
