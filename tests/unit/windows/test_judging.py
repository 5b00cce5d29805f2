"""What the filters of a dump decide, what might change it, and how that compares with what was recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layergate.model import Action, layer_named
from layergate.windows import Agreement, Comparison, Dump, Judge, Judgement, compare, read
from layergate.windows.situations import of_event
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, condition, event, guid, number

CONNECT = "FWPM_LAYER_ALE_AUTH_CONNECT_V4"
PERMIT, BLOCK = "FWP_ACTION_PERMIT", "FWP_ACTION_BLOCK"
WSH = "FWPM_SUBLAYER_MPSSVC_WSH"
WEB = condition("IP_REMOTE_PORT", number(16, 443))
OTHER_PORT = condition("IP_REMOTE_PORT", number(16, 22))
USER = condition("ALE_USER_ID", composer.sddl("O:SYD:(A;;CC;;;S-1-5-80-1)"))
ODD = condition("IP_PROTOCOL", number(8, 6), "ALMOST")


def dump_of(rows: list[Row], events: list[str], **lists: object) -> Dump:
    state = read([composer.state(rows, **lists).encode()], "state.xml")
    return read([composer.net_events(events).encode()], "events.xml", state)


def compared(rows: list[Row], text: str, **lists: object) -> Comparison:
    dump = dump_of(rows, [text], **lists)
    return compare(Judge(dump), dump.events[0])


def judged(rows: list[Row], **lists: object) -> Judgement:
    dump = dump_of(rows, [event(1, 48)], **lists)
    return Judge(dump).judge(of_event(dump.events[0], layer_named("ALE_AUTH_CONNECT_V4")))


def block(number_: int, *conditions: str, **row: object) -> Row:
    return Row(number_, f"filter {number_}", action=BLOCK, conditions=conditions, **row)  # type: ignore[arg-type]


def permit(number_: int, *conditions: str, **row: object) -> Row:
    return Row(number_, f"filter {number_}", action=PERMIT, conditions=conditions, **row)  # type: ignore[arg-type]


# --- open filters -----------------------------------------------------------------------------------------------------


def test_a_filter_that_tests_a_token_does_not_match_and_is_open() -> None:
    judgement = judged([block(1, USER, recorded=9), permit(2)])
    assert judgement.verdict.action is Action.PERMIT
    assert judgement.verdict.filter.id == 2
    assert [(one.filter.id, one.reason) for one in judgement.open] == [
        (1, "it depends on ALE_USER_ID, which is not recorded")
    ]
    assert not judgement.is_certain


def test_what_stands_below_the_deciding_filter_or_misses_is_not_open() -> None:
    assert judged([block(1, USER), permit(2, recorded=9)]).open == ()
    assert judged([block(1, OTHER_PORT, USER, recorded=9), permit(2)]).open == ()


def test_what_stands_below_a_hard_verdict_is_not_open() -> None:
    assert judged([block(1, sublayer=WSH), permit(2, USER)]).open == ()
    assert [one.filter.id for one in judged([permit(1, sublayer=WSH), block(2, USER)]).open] == [2]


def test_an_open_filter_of_the_same_action_leaves_the_action_certain() -> None:
    judgement = judged([permit(1, USER, recorded=9), permit(2)])
    assert [one.filter.id for one in judgement.open] == [1]
    assert judgement.is_certain


def test_a_filter_that_was_not_understood_is_open_with_the_reason() -> None:
    (one,) = judged([block(1, ODD, recorded=9), permit(2)]).open
    assert one.reason == "it was not understood: the match type 'FWP_MATCH_ALMOST'"


CALLOUT = "{c94f0b12-6d1a-4e58-b3f7-20a9d1e4c803}"


@pytest.mark.parametrize("kind", ["TERMINATING", "UNKNOWN"])
def test_a_callout_goes_on_and_its_filter_is_open(kind: str) -> None:
    asking = Row(1, "asks", action=f"FWP_ACTION_CALLOUT_{kind}", callout=CALLOUT, recorded=9)
    judgement = judged([asking, permit(2)])
    assert judgement.verdict.filter.id == 2
    (one,) = judgement.open
    assert (one.filter.action, one.reason) == (Action(f"callout-{kind.lower()}"), f"it asks the callout {CALLOUT}")


def test_an_inspection_never_changes_a_verdict() -> None:
    asking = Row(1, "asks", action="FWP_ACTION_CALLOUT_INSPECTION", callout=CALLOUT, recorded=9)
    assert judged([asking, permit(2)]).open == ()


def test_the_platforms_silent_drop_drops() -> None:
    silent = Row(
        1, "stealth", action="FWP_ACTION_CALLOUT_TERMINATING", callout="FWPM_CALLOUT_X_SILENT_DROP", recorded=9
    )
    judgement = judged([silent, permit(2)])
    assert (judgement.verdict.action, judgement.verdict.filter.id, judgement.open) == (Action.BLOCK, 1, ())


def test_a_callout_that_nobody_registered_blocks() -> None:
    asking = Row(1, "asks", action="FWP_ACTION_CALLOUT_TERMINATING", callout=CALLOUT, recorded=9)
    listed = [(CONNECT, composer.callout(CALLOUT, CONNECT, 9, flags=()))]
    judgement = judged([asking, permit(2)], callouts=listed)
    assert (judgement.verdict.action, judgement.verdict.filter.id, judgement.open) == (Action.BLOCK, 1, ())


def test_boot_time_and_disabled_filters_are_not_heard() -> None:
    judgement = judged([block(1, flags=["BOOTTIME"], recorded=9), block(3, flags=["DISABLED"], recorded=9), permit(2)])
    assert (judgement.verdict.filter.id, judgement.open) == (2, ())


# --- comparison -------------------------------------------------------------------------------------------------------


def test_the_same_filter() -> None:
    one = compared([block(1, WEB), permit(2, recorded=0)], event(1, 48))
    assert (one.agreement, one.reasons) == (Agreement.SAME, ())


def test_no_filter_is_no_filter() -> None:
    one = compared([block(1, OTHER_PORT)], event(0, 48, kind="CLASSIFY_ALLOW"))
    assert one.agreement is Agreement.SAME


def test_the_same_action_by_another_filter() -> None:
    one = compared([block(1, WEB), block(2, recorded=9)], event(1, 48))
    assert (one.agreement, one.reasons) == (Agreement.ANOTHER, ())


def test_a_different_action_without_an_excuse_is_different() -> None:
    one = compared([block(1, WEB), permit(2, recorded=9)], event(1, 48))
    assert (one.agreement, one.reasons) == (Agreement.DIFFERENT, ())


def test_a_recorded_filter_that_does_not_match_is_different_with_the_field() -> None:
    one = compared([block(1, OTHER_PORT), permit(2)], event(1, 48))
    assert (one.agreement, one.reasons) == (
        Agreement.DIFFERENT,
        ("filter #1 does not match the recorded IP_REMOTE_PORT",),
    )


@pytest.mark.parametrize(
    "rows, recorded, reason",
    [
        ([permit(2)], 77, "filter #77 is not in the state: the filters have changed since"),
        ([block(1, USER), permit(2)], 1, "filter #1 'filter 1': it depends on ALE_USER_ID, which is not recorded"),
        (
            [block(1, ODD), permit(2)],
            1,
            "filter #1 'filter 1': it was not understood: the match type 'FWP_MATCH_ALMOST'",
        ),
        (
            [block(1, layer="FWPM_LAYER_ALE_AUTH_CONNECT_V6"), permit(2)],
            1,
            "filter #1 is at ALE_AUTH_CONNECT_V6: the s",
        ),
        ([block(1, flags=["BOOTTIME"]), permit(2)], 1, "filter #1 is boot-time"),
        ([block(1, flags=["DISABLED"]), permit(2)], 1, "filter #1 is disabled"),
    ],
)
def test_a_different_action_with_an_excuse_is_undecided(rows: list[Row], recorded: int, reason: str) -> None:
    rows = [replace(row, recorded=9) if row.id == 1 else row for row in rows]
    one = compared(rows, event(recorded, 48))
    assert one.agreement is Agreement.UNDECIDED
    assert one.reasons[0].startswith(reason)


def test_of_many_open_filters_a_few_are_named_the_recorded_one_first() -> None:
    rows = [*(block(number_, USER, recorded=9) for number_ in range(1, 10)), permit(20)]
    one = compared(rows, event(7, 48))
    assert [reason[:9] for reason in one.reasons] == ["filter #7", "filter #1", "filter #2", "and 6 mor"]


@pytest.mark.parametrize(
    "text, reason",
    [
        (event(1, 48).replace("CLASSIFY_DROP", "CAPABILITY_DROP"), "it is no classification"),
        (event(1, 48).replace("<layerId>48</layerId>", ""), "it names no layer"),
        (event(1, 9999), "no layer has the id 9999"),
    ],
)
def test_what_is_no_classification_is_undecided(text: str, reason: str) -> None:
    one = compared([permit(2)], text)
    assert (one.agreement, one.judgement, one.reasons) == (Agreement.UNDECIDED, None, (reason,))


def test_without_filters_nothing_is_decided() -> None:
    dump = read([composer.net_events([event(1, 48)]).encode()], "events.xml")
    one = compare(Judge(dump), dump.events[0])
    assert (one.agreement, one.judgement) == (Agreement.UNDECIDED, None)


def test_layers_are_those_of_the_dump_by_its_ids() -> None:
    row = block(1, WEB)
    layers = [composer.layer(CONNECT, number=7, filters=[row.xml()])]
    assert compared([row], event(1, 7), layers=layers).agreement is Agreement.SAME


def test_a_recording_is_compared_with_its_own_filters() -> None:
    text = composer.recording(example.ROWS, [event(70003, 48, application=example.BROWSER, tag="netEvent")])
    dump = read([text.encode()], "wfpdiag.xml")
    assert compare(Judge(dump), dump.events[0]).agreement is Agreement.SAME


def test_the_callouts_name_stands_in_the_reason() -> None:
    asking = Row(1, "asks", action="FWP_ACTION_CALLOUT_UNKNOWN", callout=CALLOUT, recorded=9, key=guid(5))
    listed = [(CONNECT, composer.callout(CALLOUT, CONNECT, 9, "Shield"))]
    one = compared([asking, permit(2)], event(1, 48), callouts=listed)
    assert one.reasons == ("filter #1 'asks': it asks the callout Shield",)
