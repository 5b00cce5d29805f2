"""`layergate check` and `layergate schema`, and what is common to all verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from layergate.cli import main

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
    assert list(line) == ["kind", "id", "severity", "file", "line", "object", "evidence", "cause", "remedy"]
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


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["check"], ["check", "a", "b"], ["check", "--frob", "x"]])
def test_wrong_use_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "usage" in capsys.readouterr().err
