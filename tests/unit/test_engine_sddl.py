"""Security descriptors: whom they grant the right to match."""

from __future__ import annotations

import pytest

from layergate.engine import matches
from layergate.engine.sddl import entries, grants
from layergate.model import Condition, DataType, MatchType, Token, Value

EVERYONE, ANONYMOUS, SYSTEM, SERVICE = "S-1-1-0", "S-1-5-7", "S-1-5-18", "S-1-5-80-1"

ROWS = [
    ("a list that names the token's SID", f"O:SYG:SYD:(A;;CCRC;;;{SERVICE})", {SERVICE}, True),
    ("a list that names another", f"O:SYG:SYD:(A;;CCRC;;;{SERVICE})", {SYSTEM, EVERYONE}, False),
    ("an abbreviation", "O:LSD:(A;;CC;;;S-1-15-3-1)(A;;CC;;;WD)(A;;CC;;;AN)", {EVERYONE}, True),
    ("a denial before the permission", "O:LSD:(D;;CC;;;AN)(A;;CC;;;WD)", {EVERYONE, ANONYMOUS}, False),
    ("a denial after it", "O:LSD:(A;;CC;;;WD)(D;;CC;;;AN)", {EVERYONE, ANONYMOUS}, True),
    ("another right", "O:LSD:(A;;RC;;;WD)", {EVERYONE}, False),
    ("all rights", "O:LSD:(A;;GA;;;WD)", {EVERYONE}, True),
    ("rights as a number", "O:LSD:(A;;0x1;;;WD)", {EVERYONE}, True),
    ("rights as another number", "O:LSD:(A;;0x20000;;;WD)", {EVERYONE}, False),
    ("no list at all", "O:SYG:SY", {ANONYMOUS}, True),
    ("an empty list", "O:SYG:SYD:", {EVERYONE}, False),
    ("an entry that is inherited only", "D:(A;IO;CC;;;WD)", {EVERYONE}, False),
    ("an entry that is inherited too", "D:(A;OICI;CC;;;WD)", {EVERYONE}, True),
    ("a condition, which can't be judged", '(XA;;CC;;;WD;(@User.Title=="PM"))', {EVERYONE}, True),
    ("a condition in a list", 'D:(XA;;CC;;;WD;(@User.Title=="PM"))', {EVERYONE}, False),
    ("an audit list behind it", "D:(A;;CC;;;SY)S:(AU;SAFA;CC;;;WD)", {EVERYONE}, False),
    ("text that is no descriptor", "D:((((", {EVERYONE}, False),
]


@pytest.mark.parametrize("sddl, sids, is_granted", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_whom_a_descriptor_grants(*, sddl: str, sids: set[str], is_granted: bool) -> None:
    assert grants(sddl, sids) is is_granted


def test_entries_are_in_order() -> None:
    listed = entries("O:LSD:(D;;CC;;;AN)(A;;CC;;;WD)")
    assert [(entry.allows, entry.sid) for entry in listed] == [(False, ANONYMOUS), (True, EVERYONE)]


def test_a_token_meets_a_descriptor_or_a_sid() -> None:
    token = Value(DataType.TOKEN_ACCESS_INFORMATION, Token(frozenset({SYSTEM, EVERYONE})))

    def condition(kind: DataType, text: str, how: MatchType = MatchType.EQUAL) -> Condition:
        return Condition("ALE_USER_ID", how, Value(kind, text))

    assert matches(token, condition(DataType.SECURITY_DESCRIPTOR, "D:(A;;CC;;;SY)"))
    assert not matches(token, condition(DataType.SECURITY_DESCRIPTOR, "D:(A;;CC;;;AN)"))
    assert matches(token, condition(DataType.SECURITY_DESCRIPTOR, "D:(A;;CC;;;AN)", MatchType.NOT_EQUAL))
    assert matches(token, condition(DataType.SID, SYSTEM))
    assert not matches(token, condition(DataType.SID, SERVICE))
    assert not matches(token, condition(DataType.SID, SYSTEM, MatchType.GREATER))
    user = Value(DataType.TOKEN_ACCESS_INFORMATION, 0)
    assert not matches(user, condition(DataType.SECURITY_DESCRIPTOR, "D:(A;;CC;;;WD)"))
