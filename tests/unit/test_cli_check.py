"""`layergate check` and `layergate schema`, and what is common to all verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from layergate.cli import main
from tests.unit.windows import example

Run = Callable[..., tuple[int, str, str]]


GOOD = '[[filter]]\nname = "a"\nlayer = "ALE_AUTH_CONNECT"\naction = "block"\n'
DOUBTFUL = GOOD + 'when.app = "/no/such/executable"\n'
WRONG = GOOD + "when.local_port = 1\n"
BAD = GOOD + "colour = 1\nhard = true\n"


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run check on a text; return (status, standard output, standard error)."""

    def run(text: str, *options: str, name: str = "p.toml") -> tuple[int, str, str]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        status = main(["check", str(path), *options])
        captured = capsys.readouterr()
        return status, captured.out.replace(str(path), name), captured.err.replace(str(path), name)

    return run


@pytest.mark.parametrize("text, status", [(GOOD, 0), (DOUBTFUL, 0), (WRONG, 1), (BAD, 2), ("[[", 2)])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_exit_status_says_how_bad_it_is(check: Run, text: str, status: int, options: str) -> None:
    assert check(text, *options)[0] == status


def test_people_get_place_cause_remedy_and_a_summary(check: Run) -> None:
    _, out, _ = check(WRONG)
    first, cause, remedy, summary = out.splitlines()
    assert first == "p.toml:1: error field-unknown: filter 'a' at ALE_AUTH_CONNECT: a test of IP_LOCAL_PORT"
    assert cause.startswith("    cause:  cgroup/connect4,6")
    assert remedy.startswith("    remedy: test one of ALE_APP_ID")
    assert summary == "p.toml: 1 filter (2 by layer and family), 1 error"


def test_nothing_to_report(check: Run) -> None:
    assert check(GOOD)[1] == "p.toml: 1 filter (2 by layer and family), nothing to report\n"


def test_findings_are_json_lines(check: Run) -> None:
    (line,) = map(json.loads, check(WRONG, "--json")[1].splitlines())
    assert list(line) == ["kind", "id", "severity", "file", "line", "object", "evidence", "cause", "remedy", "witness"]
    assert (line["kind"], line["id"], line["severity"], line["line"]) == ("finding", "field-unknown", "error", 1)


def test_an_unresolved_executable_is_a_warning(check: Run) -> None:
    (line,) = map(json.loads, check(DOUBTFUL, "--json")[1].splitlines())
    assert (line["id"], line["severity"], line["line"]) == ("unresolved", "warning", 5)
    assert "does not exist" in line["evidence"]


def test_problems_are_error_lines(check: Run) -> None:
    _, out, err = check(BAD, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [list(line) for line in lines] == [["kind", "file", "line", "object", "found", "accepted"]] * 2
    assert [(line["kind"], line["line"], line["object"]) for line in lines] == [
        ("error", 5, "filter 'a'"),
        ("error", 6, "filter 'a'"),
    ]
    _, out, err = check(BAD)
    assert out == ""
    assert err.startswith("p.toml:5: filter 'a': unknown key 'colour'; one of name")


def test_json_files_have_lines_too(check: Run) -> None:
    text = '{"filter": [\n{"name": "a",\n"layer": "ALE_AUTH_CONNECT",\n"action": "deny"}]}'
    (line,) = map(json.loads, check(text, "--json", name="p.json")[1].splitlines())
    assert (line["line"], line["found"]) == (4, "action = 'deny'")


def test_no_colour_but_on_a_terminal(check: Run) -> None:
    assert "\x1b" not in check(WRONG)[1]


def test_schema_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "layergate policy"


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in ("explain", "check", "schema"))


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["check", "a", "b"], ["check", "--frob", "x"]])
def test_wrong_use_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage" in capsys.readouterr().err


def test_one_file_is_needed_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert "not one file; a policy file, or --wfp and a dump" in capsys.readouterr().err


# --- the caller's login -----------------------------------------------------------------------------------------------

LOCKED_OUT = """
[[filter]]
name = "only the web"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when.local_port = { not = 443 }
"""
DOUBTFUL_LOGIN = """
[[filter]]
name = "no daemons"
layer = "ALE_AUTH_LISTEN"
action = "block"
when.user = 0
"""
LOGIN = "203.0.113.9 50000 192.0.2.1 22"


def test_a_policy_that_cuts_off_the_callers_own_login_is_an_error(check: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(LOCKED_OUT)[0] == 0
    monkeypatch.setenv("SSH_CONNECTION", LOGIN)
    status, out, _ = check(LOCKED_OUT, "--json")
    (line,) = map(json.loads, out.splitlines())
    assert (status, line["id"], line["severity"], line["line"]) == (1, "cuts-off-login", "error", 2)
    assert "the live session from 203.0.113.9 to port 22 is blocked at ALE_AUTH_RECV_ACCEPT" in line["evidence"]
    assert line["witness"]["values"]["REAUTHORIZE_REASON"] == 1


def test_where_it_hangs_on_what_is_not_known_it_is_a_warning(check: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", LOGIN)
    status, out, _ = check(DOUBTFUL_LOGIN, "--json")
    (line,) = map(json.loads, out.splitlines())
    assert (status, line["id"], line["severity"]) == (0, "cuts-off-login", "warning")
    assert "the next login from 203.0.113.9 to port 22 may be blocked at ALE_AUTH_LISTEN" in line["evidence"]


@pytest.mark.parametrize(
    "login, is_cut",
    [
        ("203.0.113.9-192.0.2.1:22", True),
        ("203.0.113.9:1234-192.0.2.1:443", False),
        ("[2001:db8::9]-[2001:db8::1]:22", True),
        ("[::ffff:203.0.113.9]-192.0.2.1:22", True),
    ],
)
def test_another_login_can_be_asked_of(check: Run, login: str, *, is_cut: bool) -> None:
    assert check(LOCKED_OUT, "--login", login)[0] == is_cut


@pytest.mark.parametrize(
    "login", ["me", "1.2.3.4", "1.2.3.4-1.2.3.5", "1.2.3.4-[::1]:22", "1.2.3.4-1.2.3.5:99999", "1.2.3-1.2.3.4:1"]
)
def test_a_login_that_is_none_is_refused(check: Run, login: str) -> None:
    status, _, errors = check(LOCKED_OUT, "--login", login)
    assert status == 2
    assert "REMOTE[:PORT]-LOCAL:PORT" in errors


@pytest.mark.parametrize("words", ["", "a b c d", "1.2.3.4 x 1.2.3.5 22", "1.2.3.4 1 ::1 22"])
def test_what_is_no_login_in_the_environment_is_passed_over(
    check: Run, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", words)
    assert check(LOCKED_OUT)[0] == 0


# --- dumps ------------------------------------------------------------------------------------------------------------


def test_a_dump_is_checked_as_a_windows_host_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wfpstate.xml"
    path.write_text(example.state(), encoding="utf-8-sig")
    for words in (["check", str(path)], ["check", "--wfp", str(path)]):
        assert main([*words, "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {line["id"] for line in lines} >= {"permit-undone"}
        assert not {line["id"] for line in lines} & {"no-hook", "field-unknown", "cuts-off-login"}


def test_real_dumps_are_checked(shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(shared_dir / "windows" / "filters-2026.xml"), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ids = {line["id"] for line in found}
    # Ties of opposite actions, and three sublayers whose weight the file does not say.
    assert {"ambiguous", "permit-undone", "shadowed", "doubtful"} <= ids


def test_a_filter_with_a_limit_hides_nothing_below_it_and_can_be_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = '[[filter]]\nname = "{}"\nlayer = "ALE_AUTH_RECV_ACCEPT"\naction = "{}"\nweight = {}\n'
    limit = 'limit = {{ per = "remote_address", concurrent = {} }}\n'
    path = tmp_path / "limits.toml"
    path.write_text(
        rule.format("limited", "block", 9)
        + limit.format(3)
        + rule.format("welcome", "permit", 5)
        + rule.format("never", "block", 4)
        + limit.format(9)
    )
    main(["check", str(path), "--json"])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shadowed = [one for one in told if one.get("id") == "shadowed"]
    assert {str(one) for one in shadowed if "'never'" in str(one)}
    assert not [one for one in shadowed if "'welcome' at" in str(one)]
