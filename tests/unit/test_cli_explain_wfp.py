"""`layergate explain --wfp`: what a Windows host would decide, offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layergate.cli import main
from layergate.model import DataType, InputError, Token
from layergate.windows import Dump, read
from layergate.windows.questions import app_id, sid, token
from layergate.windows.values import path_text
from tests.unit.windows import composer, example

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `layergate explain --wfp wfpstate.xml`; return (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    Path("wfpstate.xml").write_text(example.state(), encoding="utf-8-sig")
    Path("filters.xml").write_text(composer.filters(example.ROWS), encoding="utf-16")
    Path("netevents.xml").write_text(example.net_events(), encoding="utf-8-sig")

    def run(*words: str) -> tuple[int, str, str]:
        named = () if "--wfp" in words else ("--wfp", "wfpstate.xml")
        status = main(["explain", *words, *named])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def verdict(explain: Run, *words: str) -> tuple[int, dict[str, Any]]:
    status, out, errors = explain(*words, "--json")
    assert errors == ""
    (line,) = map(json.loads, out.splitlines())
    return status, line


ANSWERS = [
    ("nothing passes the kill switch", "connect tcp 203.0.113.9:443 --app browser.exe", 1, 70003),
    ("but what goes through the tunnel", "connect tcp 10.8.0.1:443 --app browser.exe", 0, 70002),
    ("and the VPN's own, by a file name", "connect udp 203.0.113.9:51820 --app harbor.exe", 0, 70001),
    ("by a path on a drive", r"connect udp 203.0.113.9:1 --app C:\Program_Files\Harbor_VPN\Harbor.exe", 0, 70001),
    ("an accepted program", "accept tcp 192.0.2.77:50123 to 192.0.2.10:22005 --app syncd.exe", 0, 71030),
    ("another port of it", "accept tcp 192.0.2.77:50123 to 192.0.2.10:22 --app syncd.exe", 0, None),
    (
        "on a public network",
        "accept tcp 192.0.2.77:5 to 192.0.2.10:22 --value original_profile_id=1 --value current_profile_id=1",
        1,
        71031,
    ),
]


@pytest.mark.parametrize("question, status, decided", [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_the_filter_that_decides(explain: Run, question: str, status: int, decided: int | None) -> None:
    said, line = verdict(explain, *(word.replace("_F", " f").replace("_V", " v") for word in question.split()))
    assert (said, line["filter"]) == (status, decided)


def test_a_filter_for_a_token_is_named_with_the_answer_either_way(explain: Run) -> None:
    question = ("connect", "tcp", "10.8.0.1:80", "--app", "svchost.exe")
    status, line = verdict(explain, *question)
    assert (status, line["filter"]) == (0, 70002)
    (depends,) = line["depends"]
    assert (depends["on"], depends["filters"]) == ("token", [71011])
    assert (depends["action"], depends["filter"]) == ("block", 71011)
    assert example.TIME_SERVICE in depends["tests"][0]
    out = explain(*question)[1]
    assert "what can't be decided here:" in out
    assert "#71011 'Service Hardening Default Block': with user S-1-5-80-4267341169-2882…, blocked by #71011" in out


def test_a_token_that_is_given_decides(explain: Run) -> None:
    question = ("connect", "tcp", "10.8.0.1:80", "--app", "svchost.exe", "--token", example.TIME_SERVICE)
    status, line = verdict(explain, *question)
    assert (status, line["filter"], line["depends"]) == (1, 71011, [])
    assert verdict(explain, *question[:-1], "LS")[1]["filter"] == 70002


def test_a_callout_counts_as_going_on_and_is_named_with_what_its_block_would_do(explain: Run) -> None:
    words = ("--layer", "STREAM_V4", "--value", "local_port=80")
    status, line = verdict(explain, *words)
    assert (status, line["action"], line["filter"]) == (0, "permit", None)
    assert [one["filter"] for one in line["sublayers"][0]["continued"]] == [72001]
    (depends,) = line["depends"]
    assert (depends["on"], depends["callout"], depends["action"]) == ("callout", example.SHIELD_CALLOUT, "block")
    assert "if it blocked, blocked by #72001 'Shield stream inspection'" in explain(*words)[1]


def test_boot_time_filters_are_not_heard(explain: Run) -> None:
    assert "Boot Time Filter" not in explain("accept", "tcp", "192.0.2.77:5", "to", "192.0.2.10:22", "--all")[1]


def test_people_get_names_of_the_host_with_ids(explain: Run) -> None:
    out = explain("connect", "tcp", "203.0.113.9:443", "--app", "browser.exe")[1]
    first, *rest = out.splitlines()
    assert first == (
        "blocked at ALE_AUTH_CONNECT_V4 by #70003 'Harbor: nothing else leaves' in sublayer Harbor VPN kill switch: "
        "it is hard, so the permit #71020 'Default Outbound' below it was not heard"
    )
    assert any("browser.exe" in line and rf"asked for {example.HARBOR_APP}" in line for line in rest)
    assert any("remote_address" in line and "asked for 10.8.0.0-10.8.255.255" in line for line in rest)


def test_filters_alone_are_explained_with_a_state_beside_them(explain: Run) -> None:
    status, line = verdict(
        explain, "--wfp", "filters.xml", "--state", "wfpstate.xml", "connect", "tcp", "203.0.113.9:443"
    )
    assert (status, line["filter"], line["sublayer"]) == (1, 70003, "Harbor VPN kill switch")


WRONG = [
    ("no filters", ["--wfp", "netevents.xml", "connect", "1.2.3.4"], "netevents.xml: no filters"),
    ("no such file", ["--wfp", "nowhere.xml", "connect", "1.2.3.4"], "nowhere.xml"),
    ("a token that is none", ["connect", "1.2.3.4", "--token", "me"], "'me' is no SID"),
    ("an unknown field", ["--layer", "STREAM_V4", "--value", "app=x"], "STREAM_V4 has no field 'app'"),
    ("both sources", ["connect", "1.2.3.4", "--policy", "p.toml"], "not allowed with"),
    ("neither", ["--wfp", "wfpstate.xml"], "not one question"),
]


@pytest.mark.parametrize("words, said", [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_words_are_wrong_input(explain: Run, words: list[str], said: str) -> None:
    status, out, errors = explain(*words)
    assert (status, out) == (2, "")
    assert said in errors


@pytest.fixture
def dump() -> Dump:
    return read([example.state().encode()], "state")


def test_an_application_is_found_by_what_people_call_it(dump: Dump) -> None:
    wanted = f"{example.SVCHOST}\0".encode("utf-16-le")
    for text in ("svchost.exe", "SvcHost.exe", r"C:\Windows\System32\svchost.exe", "c:/windows/system32/svchost.exe"):
        assert app_id(text, dump.policy) == wanted
    assert path_text(app_id(r"D:\games\Game.exe", dump.policy)) == r"\device\harddiskvolume3\games\game.exe"
    assert path_text(app_id("System", dump.policy)) == "system"
    assert path_text(app_id(r"\Device\X\y.exe", dump.policy)) == r"\device\x\y.exe"


def test_a_name_that_stands_for_several_applications_is_refused() -> None:
    paths = [rf"\device\harddiskvolume3\{place}\same.exe" for place in "abcdefg"]
    rows = [
        composer.Row(number, conditions=[composer.condition("ALE_APP_ID", composer.app(path))])
        for number, path in enumerate(paths, 1)
    ]
    policy = read([composer.filters(rows).encode()], "filters").policy
    with pytest.raises(InputError, match=r"'same.exe' stands for 7 applications; one of .*a\\same.exe, .* …"):
        app_id("same.exe", policy)


def test_tokens_and_sids_may_be_abbreviated_and_everyone_is_in_every_token_but_one() -> None:
    assert token("SY, S-1-5-32-544").data == Token(frozenset({"S-1-5-18", "S-1-5-32-544", "S-1-1-0"}))
    assert token("AN").data == Token(frozenset({"S-1-5-7"}))
    assert (sid("S-1-0-0").type, sid("BA").data) == (DataType.SID, "S-1-5-32-544")
    for wrong in ("", "x", "S-1-"):
        with pytest.raises(InputError):
            token(wrong)


def test_a_real_host_answers(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(shared_dir / "windows" / "wfpstate-2024.xml")
    words = ["explain", "--wfp", state, "connect", "tcp", "192.168.1.17", "to", "198.51.100.15:443", "--json"]
    assert main([*words, "--app", r"C:\Windows\explorer.exe"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["filter_name"] == "Default Outbound"
    assert {one["action"] for one in line["depends"] if one["on"] == "token"} == {"block"}
    assert main([*words, "--app", "SearchFilterHost.exe"]) == 1
    assert json.loads(capsys.readouterr().out)["filter_name"] == "Block all outbound traffic from SearchFilterHost"
