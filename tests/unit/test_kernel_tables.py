"""What the kernel's side refuses by name, and what both sides must agree on."""

from __future__ import annotations

import pytest

from layergate.compile import KERNEL_FIELDS, KERNEL_WORDS, KNOWN, WALK_MAX, Op, compile_policy
from layergate.compile.steps import CODE_BITS, CODE_BLOCK, CODE_HARD, NO_CODE, STEP_BYTES
from layergate.compile.words import ADDRESS_WORDS, SCALARS_AT
from layergate.kernel import layout_generated as layout
from layergate.kernel.hooks import HOOKS
from layergate.kernel.tables import field_numbers, require
from layergate.model import (
    Action,
    Callout,
    Condition,
    DataType,
    Filter,
    MatchType,
    NotSupportedError,
    Policy,
    Sublayer,
    Value,
    layer_named,
    layers_named,
)
from tests.parity.drawn import possible

CONNECT = layer_named("ALE_AUTH_CONNECT_V4")
assert CONNECT is not None


def of(*conditions: Condition, action: Action = Action.BLOCK, callout: str = "") -> Policy:
    return Policy((Sublayer("one", 1),), (Filter(1, "it", CONNECT, "one", action, conditions, callout=callout),))


def test_the_key_of_a_table_is_the_record_of_the_kernel() -> None:
    record = memoryview(bytearray(layout.RECORD.size))
    fields = list(layout.RECORD.unpack(record))
    fields[layout.RECORD_ADDRESS] = [0x11, 0x22 << 32 | 0x33, 0x44, 0x55]
    fields[layout.RECORD_SCALAR] = range(100, 110)
    fields[layout.RECORD_KNOWN] = 0xABC
    start = layout.RECORD.pack(*fields).index(b"\x11")
    words = memoryview(layout.RECORD.pack(*fields))[start : start + 4 * KERNEL_WORDS].cast("I")
    assert [words[place] for place in ADDRESS_WORDS["IP_LOCAL_ADDRESS"]] == [0, 0x11, 0x22, 0x33]
    assert [words[place] for place in ADDRESS_WORDS["IP_REMOTE_ADDRESS"]] == [0, 0x44, 0, 0x55]
    assert list(words[SCALARS_AT : SCALARS_AT + 10]) == list(range(100, 110))
    assert words[KNOWN] == 0xABC
    assert (KNOWN, KERNEL_WORDS) == (layout.KEY_KNOWN, layout.KEY_WORDS)


def test_the_numbers_of_steps_and_fields_are_the_kernel_s() -> None:
    assert all(getattr(layout, f"OP_{op.name}") == op for op in Op)
    assert all(getattr(layout, f"FIELD_{name}") == number for name, number in field_numbers().items())
    assert len(KERNEL_FIELDS) == layout.FIELD_COUNT
    assert (layout.STEP.size, layout.ROW.size) == (STEP_BYTES, STEP_BYTES)
    assert (layout.CODE_BITS, layout.CODE_BLOCK, layout.CODE_HARD, layout.NO_CODE) == (
        CODE_BITS,
        CODE_BLOCK,
        CODE_HARD,
        NO_CODE,
    )
    assert layout.STEPS_MAX == WALK_MAX


def test_every_layer_field_and_match_type_is_taken_by_the_kernel_or_refused_by_name() -> None:
    """What a hook can know is taken, but for texts that are not compared as a whole."""
    taken = refused = 0
    for hook in HOOKS:
        for layer in layers_named(hook.layer):
            for one in layer.fields:
                for how, conditions in possible(one).items():
                    condition = conditions[-1]
                    item = Filter(1, "it", layer, "one", Action.BLOCK, (condition,))
                    compiled = compile_policy(Policy((Sublayer("one", 1),), (item,)))
                    by_word = one.name in KERNEL_FIELDS and not compiled.tables[layer.id].layout.predicates
                    if by_word:
                        require(compiled)
                        taken += 1
                        continue
                    refused += 1
                    with pytest.raises(NotSupportedError, match=rf"filter 'it'.*{one.name}"):
                        require(compiled)
                    assert one.name not in hook.fields or how in (
                        MatchType.GREATER,
                        MatchType.LESS,
                        MatchType.GREATER_OR_EQUAL,
                        MatchType.LESS_OR_EQUAL,
                        MatchType.RANGE,
                        MatchType.PREFIX,
                        MatchType.NOT_PREFIX,
                        MatchType.EQUAL,
                        MatchType.NOT_EQUAL,
                    )
    assert taken > 1000
    assert refused > 1000


def test_the_end_of_a_path_is_refused_by_name() -> None:
    suffix = Condition("ALE_APP_ID", MatchType.PREFIX, Value(DataType.BYTE_BLOB, b"curl"))
    with pytest.raises(NotSupportedError, match=r"filter 'it'.*PREFIX of BYTE_BLOB on ALE_APP_ID"):
        require(compile_policy(of(suffix)))


def test_a_sid_of_a_user_is_refused_by_name() -> None:
    sid = Condition("ALE_USER_ID", MatchType.EQUAL, Value(DataType.SID, "S-1-5-18"))
    with pytest.raises(NotSupportedError, match=r"filter 'it'.*SID on ALE_USER_ID"):
        require(compile_policy(of(sid)))


def test_a_callout_is_refused_by_name() -> None:
    policy = of(action=Action.CALLOUT_TERMINATING, callout="inspect")
    policy = Policy(
        policy.sublayers, policy.filters, callouts=(Callout("inspect", "inspect", policy.filters[0].layer),)
    )
    with pytest.raises(NotSupportedError, match="can't ask the callout 'inspect'"):
        require(compile_policy(policy))


def test_more_sublayers_at_a_layer_than_the_kernel_hears_are_refused() -> None:
    sublayers = tuple(Sublayer(f"s{number}", number) for number in range(13))
    filters = tuple(Filter(number, "", CONNECT, one.key, Action.PERMIT) for number, one in enumerate(sublayers, 1))
    with pytest.raises(NotSupportedError, match="filters in 13 sublayers, and the kernel hears 12 at most"):
        require(compile_policy(Policy(sublayers, filters)))


def test_when_the_filter_goes_that_the_kernel_can_t_have_the_table_is_built_anew() -> None:
    sid = Condition("ALE_USER_ID", MatchType.NOT_EQUAL, Value(DataType.SECURITY_DESCRIPTOR, "D:(A;;CC;;;SY)"))
    port = Condition("IP_REMOTE_PORT", MatchType.EQUAL, Value(DataType.UINT16, 22))
    alien, plain = (Filter(number, "it", CONNECT, "one", Action.BLOCK, (one,)) for number, one in ((1, sid), (2, port)))
    before = compile_policy(Policy((Sublayer("one", 1),), (alien, plain)))
    after = compile_policy(Policy((Sublayer("one", 1),), (plain,)), before)
    require(after)
    assert after.tables[CONNECT.id].layout.count == KERNEL_WORDS
