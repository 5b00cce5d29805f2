"""`layergate windows`: its three views, for people and for programs, and what it says of wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layergate.cli import main
from tests.unit.windows import composer, example
from tests.unit.windows.composer import Row, condition, number

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `layergate windows` beside the example's files; return (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    Path("wfpstate.xml").write_text(example.state(), encoding="utf-8-sig")
    Path("netevents.xml").write_text(example.net_events(), encoding="utf-8-sig")
    Path("filters.xml").write_text(composer.filters(example.ROWS), encoding="utf-16")

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["windows", *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_lists_filters_in_the_order_in_which_they_are_heard(windows: Run) -> None:
    status, out, _ = windows("show", "wfpstate.xml", "--layer", "ALE_AUTH_CONNECT")
    assert status == 0
    shown = [line.split()[0] for line in out.splitlines() if line.startswith("    #")]
    assert shown == ["#70001", "#70002", "#70003", "#71010", "#71011", "#71020"]
    heads = [line for line in out.splitlines() if line.startswith("  ") and "weight 0x" in line and "#" not in line]
    assert heads == ["  Harbor VPN kill switch, weight 0xfff0", "  MPSSVC_WSH, weight 0x3", "  MPSSVC_WF, weight 0x2"]


def test_show_says_what_a_filter_does_asks_for_and_who_installed_it(windows: Run) -> None:
    out = windows("show", "wfpstate.xml")[1]
    (row,) = [line.split("  ") for line in out.splitlines() if "#70001" in line]
    cells = [cell.strip() for cell in row if cell]
    assert cells == [
        "#70001",
        "hard permit",
        "0xf000004000000000",
        "'Harbor: its own traffic'",
        "app harbor.exe; by Harbor VPN (HarborService)",
    ]
    assert "local_port 8384 or 22000-22010" in out
    assert "everything → callout 'Shield stream callout' (terminating)" in out
    assert "boot-time, in MPSSVC_WF; flags no loopback; by Microsoft Corporation (mpssvc) for 'Boottime Default'" in out
    assert out.endswith("nothing unknown, nothing doubtful\n")


def test_show_of_a_sublayer_or_of_boot_time_shows_nothing_else(windows: Run) -> None:
    out = windows("show", "wfpstate.xml", "--sublayer", "harbor vpn KILL switch")[1]
    assert {line.split()[0] for line in out.splitlines() if line.startswith("    #")} == {"#70001", "#70002", "#70003"}
    out = windows("show", "wfpstate.xml", "--boot")[1]
    assert [line.split()[0] for line in out.splitlines() if line.startswith("    #")] == ["#66216"]
    assert windows("show", "wfpstate.xml", "--sublayer", "MPSSVC_WSH", "--layer", "STREAM_V4")[1].count("#") == 0


def test_show_counts_what_it_does_not_list(windows: Run) -> None:
    Path("empty.xml").write_text(composer.state(layers=[composer.layer("FWPM_LAYER_STREAM_V4")]), encoding="utf-8")
    out = windows("show", "empty.xml")[1]
    assert "no filters\n\n1 layer without filters\n" in out


@pytest.mark.parametrize(
    "words, message",
    [
        (("--layer", "ALE_AUTH_CONECT"), "unknown layer 'ALE_AUTH_CONECT'; did you mean 'ALE_AUTH_CONNECT'?"),
        (("--sublayer", "MPSSVC_WT"), "unknown sublayer 'MPSSVC_WT'; did you mean 'MPSSVC_WF'?"),
        (("--state", "none.xml"), "none.xml: can't be read"),
        (("--state", "netevents.xml"), "netevents.xml: no filters; a state with filters"),
    ],
)
def test_wrong_words_are_wrong_input(windows: Run, words: tuple[str, ...], message: str) -> None:
    status, out, err = windows("show", "wfpstate.xml", *words)
    assert (status, out) == (2, "")
    assert message in err


def test_a_wrong_file_is_named_with_its_line(windows: Run) -> None:
    Path("bad.xml").write_text(example.state().replace("<filterId>70002<", "<filterId>x<"), encoding="utf-8")
    status, _, err = windows("show", "bad.xml")
    assert (status, err.startswith("layergate: bad.xml:")) == (2, True)
    status, out, _ = windows("show", "bad.xml", "--json")
    (line,) = lines(out)
    assert (status, line["kind"], line["file"], line["found"]) == (2, "error", "bad.xml", "a filter: filterId 'x'")
    assert line["line"] > 1


def test_what_is_doubtful_or_unknown_is_told_at_the_end(windows: Run) -> None:
    odd = Row(1, conditions=[condition("NOVELTY", number(8, 1))], flags=["NOVELTY"])
    misfit = replace(example.ROWS[1], recorded=5)
    Path("odd.xml").write_text(composer.filters([odd, *example.ROWS[2:], misfit]), encoding="utf-8")
    out = windows("show", "odd.xml")[1]
    assert "'a filter'" in out
    assert "NOVELTY? FWP_MATCH_EQUAL FWP_UINT8 1; not understood: ALE_AUTH_CONNECT_V4 has no field NOVELTY" in out
    ending = out[out.index("unknown:\n") :]
    assert "odd.xml:" in ending
    assert "the flag 'FWPM_FILTER_FLAG_NOVELTY' of a filter; kept as it is" in ending
    assert f"the weight of sublayer {example.HARBOR} is unknown" in ending
    assert "#70001 'Harbor: its own traffic' at ALE_AUTH_CONNECT_V4: 0x0000000000000005, computed 0xf0000" in ending
    assert f"{example.HARBOR}, weight unknown" in out


def test_show_as_json_has_one_object_a_line_and_ends_with_a_summary(windows: Run) -> None:
    status, out, _ = windows("show", "filters.xml", "--state", "wfpstate.xml", "--json")
    found = lines(out)
    assert status == 0
    assert [line["kind"] for line in found] == ["dump"] + ["provider"] * 3 + ["sublayer"] * 4 + ["filter"] * 10 + [
        "summary"
    ]
    assert (found[0]["dump"], found[0]["state"], found[0]["generation"]) == ("filters", "wfpstate.xml", "2026")
    filters = {line["filter"]: line for line in found if line["kind"] == "filter"}
    heard = [72001, 71030, 71031, 70001, 70002, 70003, 71010, 71011, 71020]
    assert list(filters) == [*heard, 66216]
    assert filters[70001]["conditions"] == [{"field": "ALE_APP_ID", "match": "EQUAL", "value": example.HARBOR_APP}]
    assert (filters[70001]["hard"], filters[70001]["weight"]) == (True, 0xF000004000000000)
    assert filters[70002]["conditions"][0]["value"] == {"low": "10.8.0.0", "high": "10.8.255.255"}
    assert (filters[66216]["heard"], filters[66216]["origin"]) == ("boot", "Boottime Default")
    assert filters[66216]["flags"] == ["BOOTTIME", "HAS_PROVIDER_CONTEXT", "FWPM_FILTER_FLAG_HAS_FILTER_ORIGIN"]
    assert found[-1]["fitting_weights"]["2026"] == 9


def test_problems_as_json_are_lines_of_their_own(windows: Run) -> None:
    odd = Row(1, conditions=[condition("NOVELTY", number(8, 1))], recorded=3)
    Path("odd.xml").write_text(composer.filters([odd]), encoding="utf-8")
    found = lines(windows("show", "odd.xml", "--json")[1])
    problems = [(line["problem"], line["object"]) for line in found if line["kind"] == "problem"]
    assert problems == [("unknown", "filter 1"), ("weight", "filter 1")]
    (line,) = [line for line in found if line["kind"] == "filter"]
    assert (line["understood"], line["reason"]) == (False, "ALE_AUTH_CONNECT_V4 has no field NOVELTY")
    assert line["conditions"] == [
        {"field": "NOVELTY", "match": None, "value": None, "text": "FWP_MATCH_EQUAL FWP_UINT8 1"}
    ]


def test_names_that_a_terminal_would_obey_are_shown_and_not_obeyed(windows: Run) -> None:
    evil = replace(example.ROWS[3], name="red\x9b31m\nalert")
    Path("evil.xml").write_text(composer.filters([evil]), encoding="utf-8")
    out = windows("show", "evil.xml")[1]
    assert r"'red\x9b31m\nalert'" in out
    assert "\x9b" not in out


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_stand_beside_our_verdict(windows: Run) -> None:
    status, out, _ = windows("events", "netevents.xml", "--state", "wfpstate.xml")
    assert status == 0
    told = out.splitlines()
    assert told[0].endswith("#70003 'Harbor: nothing else leaves'      same filter")
    assert told[2].endswith("#71011 'Service Hardening Default Block'  undecided")
    assert told[3:5] == [
        "    here: permit by #70002 'Harbor: through the tunnel' in Harbor VPN kill switch",
        "    filter #71011 'Service Hardening Default Block': it depends on ALE_USER_ID, which is not recorded",
    ]
    assert told[-1] == "4 events: 2 same filter, 2 undecided"


def test_events_as_json_have_both_outcomes(windows: Run) -> None:
    found = lines(windows("events", "netevents.xml", "--state", "wfpstate.xml", "--json")[1])
    assert [line["kind"] for line in found] == ["event"] * 4 + ["summary"]
    third = found[2]
    assert (third["action"], third["filter"], third["agreement"]) == ("block", 71011, "undecided")
    assert (third["verdict"]["action"], third["verdict"]["filter"], third["verdict"]["certain"]) == (
        "permit",
        70002,
        False,
    )
    assert third["verdict"]["open"][-1]["filter"] == 71011
    assert third["terminating"][0] == {"filter": 71011, "sublayer": "FWPM_SUBLAYER_MPSSVC_WSH", "action": "block"}
    assert third["values"]["ALE_APP_ID"] == example.SVCHOST
    assert found[-1] == {
        "kind": "summary",
        "events": 4,
        "same": 2,
        "another": 0,
        "undecided": 2,
        "different": 0,
    }


def test_events_without_filters_say_what_is_missing(windows: Run) -> None:
    status, out, _ = windows("events", "netevents.xml")
    assert status == 0
    assert out.splitlines()[-1] == "no filters to compare with: --state FILE, a state of the same machine"


def test_an_empty_log_and_a_machine_without_connections_are_no_errors(windows: Run) -> None:
    Path("empty.xml").write_text(composer.net_events([]), encoding="utf-8")
    assert windows("events", "empty.xml")[:2] == (0, "0 events\n")
    Path("quiet.xml").write_text(composer.state(example.ROWS), encoding="utf-8")
    assert windows("connections", "quiet.xml")[:2] == (0, "no connections\n")


@pytest.mark.parametrize("words", [("events", "wfpstate.xml"), ("connections", "filters.xml")])
def test_a_file_without_what_was_asked_for_is_wrong_input(windows: Run, words: tuple[str, ...]) -> None:
    status, _, err = windows(*words)
    assert status == 2
    assert f"{words[1]}: no " in err


# --- connections ------------------------------------------------------------------------------------------------------


def test_connections_are_decided_on_as_if_they_were_new(windows: Run) -> None:
    status, out, _ = windows("connections", "wfpstate.xml")
    assert status == 0
    told = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
    assert told[1] == [
        "tcp 192.0.2.10:49801 - 203.0.113.5:51820",
        *("harbor.exe", "permit #70001 'Harbor: its own traffic'", "permit? no filter"),
    ]
    assert told[3][2:] == ["block #70003 'Harbor: nothing else leaves'", "permit #71030 'Sync (TCP-In)'"]


def test_connections_as_json_name_what_is_open(windows: Run) -> None:
    found = lines(windows("connections", "wfpstate.xml", "--json")[1])
    assert [line["kind"] for line in found] == ["connection"] * 4 + ["summary"]
    first = found[0]
    assert (first["local"], first["remote"], first["app"]) == (
        *("192.0.2.10:49801", "203.0.113.5:51820"),
        example.HARBOR_APP,
    )
    assert (first["connect"]["filter"], first["accept"]["filter"]) == (70001, None)
    assert first["accept"]["open"][0]["filter"] == 71031


# --- words ------------------------------------------------------------------------------------------------------------


def test_no_view_is_wrong_use(windows: Run) -> None:
    status, _, err = windows()
    assert status == 2
    assert "VIEW" in err
