"""The findings: what Linux can't enforce, what is ambiguous, what never speaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from layergate.analysis import Severity, findings
from layergate.engine.regions import Region, covers, disjoint, region
from layergate.kernel.hooks import HOOKS
from layergate.model import Action, Condition, DataType, Filter, MatchType, Policy, Sublayer, Value, layer_named
from layergate.model.limits import Ban, Counted, Key, Limit, Per, Response
from layergate.policyfile import TableResolver, load_text

FAIR = Limit(Key(Per.ALL), Counted.CONCURRENT, 9, fair=Key(Per.REMOTE_ADDRESS))


def found(text: str) -> list[tuple[str, str, str, int]]:
    policy = load_text(text, file="p.toml", resolver=TableResolver()).policy
    return [(finding.id, str(finding.severity), finding.object, finding.line) for finding in findings(policy, HOOKS)]


def rules(*bodies: str, layer: str = "ALE_AUTH_CONNECT") -> str:
    """A file of filters a, b, c... at *layer*, a key a line."""
    tables = (
        f'[[filter]]; name = "{name}"; layer = "{layer}"; {body}\n'
        for name, body in zip("abcdefgh", bodies, strict=False)
    )
    return "".join(tables).replace("; ", "\n")


PERMIT, BLOCK = 'action = "permit"', 'action = "block"'
CONNECT = "at ALE_AUTH_CONNECT"

ROWS = [
    ("a policy that is fine", rules(f'{PERMIT}; when.protocol = "tcp"', f"{BLOCK}; weight = 0"), []),
    (
        "the local port is not known at connect",
        rules(f"{BLOCK}; when.local_port = 1"),
        [("field-unknown", "error", f"filter 'a' {CONNECT}")],
    ),
    (
        "no hook stands for the layer",
        rules(PERMIT, layer="IPFORWARD"),
        [("no-hook", "error", "filter 'a' at IPFORWARD")],
    ),
    (
        "a block where nothing can be blocked",
        rules(BLOCK, layer="STREAM"),
        [("block-without-effect", "error", "filter 'a' at STREAM")],
    ),
    ("a permit where nothing can be blocked", rules(PERMIT, layer="STREAM"), []),
    (
        "equal weights and opposite actions",
        rules(f"{PERMIT}; when.remote_port = 80", f"{BLOCK}; when.remote_port = [80, 81]"),
        [("ambiguous", "warning", f"filter 'b' {CONNECT}")],
    ),
    (
        "equal weights, opposite actions and nothing in common",
        rules(f"{PERMIT}; when.remote_port = 80", f"{BLOCK}; when.remote_port = 81"),
        [],
    ),
    (
        "equal weights, opposite actions, one family",
        rules(
            f'{PERMIT}; when.remote_address = "10.0.0.1"',
            f'{BLOCK}; when.remote_address = ["10.0.0.1", "::1"]; weight_range = 0',
        ),
        [
            ("ambiguous", "warning", "filter 'b' at ALE_AUTH_CONNECT_V4"),
            ("shadowed", "warning", "filter 'b' at ALE_AUTH_CONNECT_V4"),
        ],
    ),
    (
        "a small explicit weight below automatic ones",
        rules(f"{PERMIT}; when.remote_port = 80", f"{BLOCK}; weight = 10; when.user = 0"),
        [("weight-below-automatic", "warning", f"filter 'b' {CONNECT}")],
    ),
    ("weight 0 is meant to be last", rules(f"{PERMIT}; when.remote_port = 80", f"{BLOCK}; weight = 0"), []),
    (
        "a filter behind a wider one",
        rules(f"{BLOCK}; weight = 9", f"{PERMIT}; weight = 8; when.remote_port = 80"),
        [("shadowed", "warning", f"filter 'b' {CONNECT}")],
    ),
    (
        "a filter behind a wider range",
        rules(
            f'{BLOCK}; weight = 9; when.remote_port = "1-99"',
            f'{PERMIT}; weight = 8; when.remote_port = [80, "81-99"]; when.user = 0',
        ),
        [("shadowed", "warning", f"filter 'b' {CONNECT}")],
    ),
    (
        "a filter behind a range that is narrower",
        rules(f'{BLOCK}; weight = 9; when.remote_port = "1-99"', f'{PERMIT}; weight = 8; when.remote_port = "1-100"'),
        [],
    ),
    (
        "an unknown value is not behind a range",
        rules(f'{BLOCK}; weight = 9; when.remote_port = "0-65535"', f"{PERMIT}; weight = 8"),
        [],
    ),
    (
        "another sublayer is heard too",
        rules(f"{PERMIT}; weight = 9", f'{PERMIT}; weight = 8; sublayer = "MPSSVC_WF"; when.remote_port = 80'),
        [],
    ),
    (
        "a lighter sublayer behind a hard block",
        rules(f"{BLOCK}; weight = 9", f'{PERMIT}; weight = 8; sublayer = "MPSSVC_WF"; when.remote_port = 80'),
        [("never-heard", "warning", f"filter 'b' {CONNECT}")],
    ),
    (
        "a permit that a block below undoes",
        rules(f"{PERMIT}; when.remote_port = 80", f'{BLOCK}; sublayer = "MPSSVC_WF"'),
        [
            (
                "permit-undone",
                "warning",
                "sublayers 'FWPM_SUBLAYER_UNIVERSAL' and 'FWPM_SUBLAYER_MPSSVC_WF' at ALE_AUTH_CONNECT",
            )
        ],
    ),
    (
        "a block that a hard permit above bypasses",
        rules(f"{PERMIT}; hard = true; when.remote_port = 80", f'{BLOCK}; sublayer = "MPSSVC_WF"'),
        [
            (kind, "info", "sublayers 'FWPM_SUBLAYER_UNIVERSAL' and 'FWPM_SUBLAYER_MPSSVC_WF' at ALE_AUTH_CONNECT")
            for kind in ("block-bypassed", "filter-veto")
        ],
    ),
    (
        "a filter behind two that together are wider",
        rules(
            f'{BLOCK}; weight = 9; when.remote_port = "0-99"',
            f'{PERMIT}; weight = 8; when.remote_port = "100-65535"',
            f'{BLOCK}; weight = 7; when.remote_port = "50-150"; when.user = 0',
        ),
        [("shadowed", "warning", f"filter 'c' {CONNECT}")],
    ),
    (
        "two sublayers of one weight",
        '[[sublayer]]\nname = "x"\nweight = 7\n[[sublayer]]\nname = "y"\nweight = 7\n',
        [("sublayers-equal", "warning", "sublayer 'y'")],
    ),
]


@pytest.mark.parametrize("text, expected", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_findings(text: str, expected: object) -> None:
    headers = [number for number, line in enumerate(text.splitlines(), 1) if line == "[[filter]]"]
    # A finding on a filter points to its header; one on a sublayer has no line.
    lines = {f"filter '{name}'": line for name, line in zip("abcdefgh", headers, strict=False)}
    between = lines.get("filter 'a'", 0), lines.get("filter 'b'", 0)
    which = {"permit-undone": between[0], "block-bypassed": between[1], "filter-veto": between[1]}
    located = [(*row, which.get(row[0], lines.get(row[2].split(" at ")[0], 0))) for row in expected]
    assert sorted(found(text)) == sorted(located)


def test_a_test_that_the_kernel_cannot_make() -> None:
    condition = Condition("ALE_APP_ID", MatchType.PREFIX, Value(DataType.BYTE_BLOB, b"curl"))
    item = Filter(1, "a", layer_named("ALE_AUTH_CONNECT_V4"), "s", Action.BLOCK, (condition,), line=3)
    (finding,) = findings(Policy((Sublayer("s", 1),), (item,)), HOOKS)
    assert (finding.id, finding.severity, finding.line) == ("match-unsupported", Severity.ERROR, 3)
    assert finding.object == "filter 'a' at ALE_AUTH_CONNECT_V4"


@pytest.mark.parametrize(
    "limit, cause",
    [
        (Limit(Key(Per.REMOTE_ADDRESS), Counted.PORTS, 255, 1000), ""),
        (Limit(Key(Per.REMOTE_ADDRESS), Counted.PORTS, 256, 1000), "remembers 256 ports of one key"),
        (Limit(Key(Per.APP), Counted.REMOTES, 1000, 1000), "remembers 256 remotes of one key"),
        (FAIR, ""),
        (replace(FAIR, response=Response.RESET), "a fair share can't reset"),
        (replace(FAIR, ban=Ban(1000)), "a fair share can't ban"),
    ],
)
def test_a_limit_that_the_kernel_cannot_judge(limit: Limit, cause: str) -> None:
    item = Filter(1, "a", layer_named("ALE_AUTH_CONNECT_V4"), "s", Action.BLOCK, line=3, limit=limit)
    told = findings(Policy((Sublayer("s", 1),), (item,)), HOOKS)
    assert [(one.id, one.severity) for one in told] == [("limit-unsupported", Severity.ERROR)] * bool(cause)
    assert all(cause in one.cause for one in told)


def test_a_filter_that_nothing_can_meet_is_named() -> None:
    bits = (MatchType.FLAGS_ALL_SET, MatchType.FLAGS_NONE_SET)
    apart = Condition("IP_PROTOCOL", MatchType.EQUAL, Value(DataType.UINT8, 6))
    both = [Condition("FLAGS", how, Value(DataType.UINT32, 1)) for how in bits]
    item = Filter(1, "f", LAYER, "s", Action.PERMIT, (both[0], apart, both[1]))
    (finding,) = findings(Policy((Sublayer("s", 1),), (item,)))
    assert (finding.id, finding.object) == ("never-matches", "filter 'f' (id 1) at ALE_AUTH_CONNECT_V4")


def test_a_finding_names_the_hook_the_cause_and_the_remedy() -> None:
    policy = load_text(rules(f"{BLOCK}; when.local_port = 1"), file="p.toml", resolver=TableResolver()).policy
    (finding,) = findings(policy, HOOKS)
    assert "cgroup/connect4,6" in finding.cause
    assert "was not bound" in finding.cause
    assert "IP_REMOTE_PORT" in finding.remedy


LAYER = layer_named("ALE_AUTH_CONNECT_V4")


def many(count: int, condition_of: Callable[[int], tuple[Condition, ...]]) -> Policy:
    return Policy(
        (Sublayer("s", 1),),
        tuple(
            Filter(number, f"f{number}", LAYER, "s", Action(("permit", "block")[number % 2]), condition_of(number))
            for number in range(1, count + 1)
        ),
    )


def address(number: int) -> tuple[Condition, ...]:
    return (Condition("IP_REMOTE_ADDRESS", MatchType.EQUAL, Value(DataType.UINT32, number)),)


def test_a_big_policy_of_single_values_is_quick() -> None:
    policy = Policy((Sublayer("s", 1),), tuple(item for item in many(20_000, address).filters if item.id % 2))
    start = time.monotonic()
    assert findings(policy, HOOKS) == ()
    assert time.monotonic() - start < 10


def test_what_is_not_compared_is_said() -> None:
    (*_, last) = findings(many(100, address), HOOKS, steps_max=10)
    assert (last.id, last.severity) == ("not-all-compared", Severity.INFO)


def run(*tests: tuple[MatchType, int]) -> Region:
    return region(tuple(Condition("FLAGS", how, Value(DataType.UINT32, bits)) for how, bits in tests))


M = MatchType
COVERED = [
    ("all of 1 covers all of 5", run((M.FLAGS_ALL_SET, 1)), run((M.FLAGS_ALL_SET, 5)), True),
    ("all of 5 does not cover all of 1", run((M.FLAGS_ALL_SET, 5)), run((M.FLAGS_ALL_SET, 1)), False),
    ("none of 1 covers none of 5", run((M.FLAGS_NONE_SET, 1)), run((M.FLAGS_NONE_SET, 5)), True),
    ("any of 7 covers any of 5", run((M.FLAGS_ANY_SET, 7)), run((M.FLAGS_ANY_SET, 5)), True),
    ("any of 1 covers all of 5", run((M.FLAGS_ANY_SET, 1)), run((M.FLAGS_ALL_SET, 5)), True),
    ("all of 1 covers exactly 5", run((M.FLAGS_ALL_SET, 1)), run((M.EQUAL, 5)), True),
    ("all of 2 does not cover exactly 5", run((M.FLAGS_ALL_SET, 2)), run((M.EQUAL, 5)), False),
    ("not 5 covers 4 and 6", run((M.NOT_EQUAL, 5)), run((M.EQUAL, 4), (M.EQUAL, 6)), True),
    ("not 5 does not cover 5", run((M.NOT_EQUAL, 5)), run((M.EQUAL, 5)), False),
    ("0-4 and more than 4 cover not 9", run((M.LESS_OR_EQUAL, 4), (M.GREATER, 4)), run((M.NOT_EQUAL, 9)), True),
]


@pytest.mark.parametrize("wide, narrow, expected", [row[1:] for row in COVERED], ids=[row[0] for row in COVERED])
def test_covers(wide: Region, narrow: Region, expected: object) -> None:
    assert covers(wide, narrow) is expected


APART = [
    ("all of 1 and none of 1", run((M.FLAGS_ALL_SET, 1)), run((M.FLAGS_NONE_SET, 1)), True),
    ("any of 3 and none of 1", run((M.FLAGS_ANY_SET, 3)), run((M.FLAGS_NONE_SET, 1)), False),
    ("any of 1 and none of 3", run((M.FLAGS_ANY_SET, 1)), run((M.FLAGS_NONE_SET, 3)), True),
    ("all of 1 and exactly 4", run((M.FLAGS_ALL_SET, 1)), run((M.EQUAL, 4)), True),
    ("all of 1 and exactly 5", run((M.FLAGS_ALL_SET, 1)), run((M.EQUAL, 5)), False),
    ("less than 5 and 5", run((M.LESS, 5)), run((M.EQUAL, 5)), True),
    ("not 5 and not 6", run((M.NOT_EQUAL, 5)), run((M.NOT_EQUAL, 6)), False),
]


@pytest.mark.parametrize("one, other, expected", [row[1:] for row in APART], ids=[row[0] for row in APART])
def test_disjoint(one: Region, other: Region, expected: object) -> None:
    assert disjoint(one, other) is expected
    assert disjoint(other, one) is expected
