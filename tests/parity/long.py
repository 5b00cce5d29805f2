"""`make parity`: the reference, the interpreter, the columns and the kernel over drawn sets, filter id by filter id.

Sets are drawn from small pools (tests/parity/drawn.py) or as the literature has them (bench/rulesets.py); after the
first version of each, filters are removed and put back, and every version is compared again, compiled on top of the
one before. The kernel (root) is compared by test runs, where it can have the set at all. Exit status: 1 where anything
differed. Each difference is printed with the seed that reproduces it.

    interpreter = columns    every indication
    kernel = columns         every indication of a set that the kernel can have
    reference = interpreter  every 16th indication of a drawn set, every 256th of a large one: it is slow
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from bench.rulesets import FLAVOURS, HEADERS, Ruleset
from bench.testrun import KernelClassifier
from layergate.backends import plain
from layergate.backends.columns import Columns, VerdictColumns
from layergate.compile import Compiled, compile_policy
from layergate.engine import classify, in_order
from layergate.kernel.hooks import HOOKS
from layergate.kernel.tables import require
from layergate.model import Action, Filter, Indication, Layer, NotSupportedError, Policy, Value, layers_named
from layergate.model.catalogue import LAYERS
from tests.parity.batches import batch
from tests.parity.drawn import Drawn

VERSIONS = 4
ROWS = 1024
NUMBER = {Action.PERMIT: 1, Action.BLOCK: 2}
Asked = Sequence[Mapping[str, Value]]


@dataclass
class Count:
    """What was compared, and what differed."""

    tables: int = 0
    kernel: int = 0
    reference: int = 0
    sets: int = 0
    versions: int = 0
    differences: list[str] = field(default_factory=list)

    def told(self, seconds: float) -> str:
        """Return it as a line."""
        return (
            f"{self.sets:,} sets in {self.versions:,} versions, {seconds:,.0f} s: "
            f"interpreter = columns {self.tables:,}, kernel = columns {self.kernel:,}, "
            f"reference = interpreter {self.reference:,}; "
            f"{len(self.differences)} differences"
        )


def sets(seed: int) -> Iterator[tuple[str, Layer, Policy, Asked, int]]:
    """Yield name, layer, first version, indications, and every how manieth goes to the reference, without end."""
    dice = random.Random(f"long {seed}")
    for number in range(1 << 30):
        if number % 8 == 7:
            flavour, family, sublayers = dice.choice(FLAVOURS), dice.choice((4, 6)), dice.choice((1, 1, 2, 4))
            rules = Ruleset(flavour, dice.choice((100, 1000, 3000)), family, sublayers, seed=seed * 1000 + number)
            asked = [rules.values(one) for kind in HEADERS for one in rules.headers(kind, ROWS // 3)]
            yield f"{flavour} {rules.count} v{family} seed {rules.seed}", rules.layer, rules.policy(), asked, 256
            continue
        in_kernel = number % 2 == 0
        if in_kernel:
            hook = dice.choice(HOOKS)
            layer, fields = dice.choice(layers_named(hook.layer)), hook.fields
        else:
            layer, fields = dice.choice([one for one in LAYERS if one.fields]), ()
        drawn = Drawn(
            layer, random.Random(f"{seed} {number}"), dice.choice((3, 10, 40, 120)), kernel_fields=fields,
            sublayer_count=dice.choice((1, 2, 4)), is_simple=True,
        )  # fmt: skip
        policy = drawn.policy()
        yield f"drawn {seed} {number}", layer, policy, [drawn.indication(policy) for _ in range(ROWS)], 16


def versions(policy: Policy, dice: random.Random) -> Iterator[Policy]:
    """Yield *policy*, then with filters removed, added, put back."""
    yield policy
    kept = list(policy.filters)
    gone: list[Filter] = []
    for number in range(2, VERSIONS + 1):
        gone += [kept.pop(dice.randrange(len(kept))) for _ in range(min(len(kept), dice.choice((1, 1, 2, 5))))]
        if gone and dice.random() < 0.6:
            kept.append(gone.pop(dice.randrange(len(gone))))
        yield replace(policy, filters=tuple(sorted(kept, key=lambda item: item.id)), version=number)


def compare(
    name: str,
    layer: Layer,
    policy: Policy,
    asked: Asked,
    *,
    every: int,
    count: Count,
    kernel: object,
    before: Compiled | None,
) -> Compiled:
    """Compare one version; return its tables."""
    compiled = compile_policy(policy, before)
    made, present = batch(layer, asked)
    got = Columns(compiled).decide(layer, made, present=present, count=len(asked))
    ordered = in_order(policy)
    for row, values in enumerate(asked):
        indication = Indication(layer, values)
        told = plain.classify(compiled, indication)
        count.tables += 1
        if _of(got, row) != (NUMBER[told.action], told.filter_id, told.hard, dict(told.decided)):
            count.differences.append(
                f"{name} version {policy.version}: columns {_of(got, row)}, plain {told}: {values}"
            )
        if row % every == 0:
            wanted = classify(ordered, indication)
            count.reference += 1
            if (wanted.action, wanted.filter.id if wanted.filter else 0) != (told.action, told.filter_id):
                count.differences.append(f"{name} version {policy.version}: engine {wanted}, plain {told}: {values}")
    if isinstance(kernel, KernelClassifier) and _is_possible(compiled):
        kernel.put(compiled)
        for row, one in enumerate(kernel.decide(compiled, layer, asked)):
            count.kernel += 1
            if one != _of(got, row)[:3]:
                count.differences.append(f"{name} version {policy.version}: kernel {one}, columns {_of(got, row)}")
    count.versions += 1
    return compiled


def _of(got: VerdictColumns, row: int) -> tuple[int, int, bool, dict[str, int]]:
    decided = {name: int(one) for name, one in zip(got.sublayers, got.decided[row], strict=True) if one}
    return int(got.action[row]), int(got.filter_id[row]), bool(got.hard[row]), decided


def _is_possible(compiled: Compiled) -> bool:
    try:
        require(compiled)
    except NotSupportedError:
        return False
    return True


def main() -> int:
    """Compare until enough was compared."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity.long", description="All backends against one another."
    )
    parser.add_argument("--tables", type=int, default=10_000_000, help="comparisons of interpreter and columns")
    parser.add_argument("--kernel", type=int, default=1_000_000, help="comparisons with the kernel (0: none; root)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    count, began, said = Count(), time.monotonic(), 0.0
    with ExitStack() as leave:
        kernel: object = None
        if arguments.kernel and os.geteuid() == 0:
            kernel = leave.enter_context(KernelClassifier())
        for name, layer, policy, asked, every in sets(arguments.seed):
            before = None
            count.sets += 1
            for version in versions(policy, random.Random(name)):
                before = compare(name, layer, version, asked, every=every, count=count, kernel=kernel, before=before)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                print(count.told(said - began), file=sys.stderr)
            enough = count.tables >= arguments.tables and (kernel is None or count.kernel >= arguments.kernel)
            if enough or len(count.differences) > 20:
                break
    for line in count.differences[:20]:
        print(line)
    print(count.told(time.monotonic() - began))
    return 1 if count.differences else 0


if __name__ == "__main__":
    np.seterr(all="raise")
    sys.exit(main())
