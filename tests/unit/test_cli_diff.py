"""`layergate diff`: what two policies decide differently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layergate.cli import main
from tests.unit.windows import composer, example

Run = Callable[..., tuple[int, str, str]]

BEFORE = """
[[filter]]
name = "the web"
layer = "ALE_AUTH_CONNECT_V4"
action = "permit"
when = { app = "/x/curl", protocol = "tcp", remote_port = [80, 443] }

[[filter]]
name = "nothing else"
layer = "ALE_AUTH_CONNECT_V4"
action = "block"
weight = 0
"""


@pytest.fixture
def diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Compare BEFORE with the text given; return (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text(BEFORE, encoding="utf-8")

    def run(after: str, *words: str) -> tuple[int, str, str]:
        Path("b.toml").write_text(after, encoding="utf-8")
        status = main(["diff", "a.toml", "b.toml", *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_what_is_the_same_decides_alike_whatever_it_is_called(diff: Run) -> None:
    first, second = BEFORE.strip().split("\n\n")
    renamed = f"{second}\n\n{first}".replace("nothing else", "the rest")
    assert diff(renamed) == (0, "a.toml and b.toml decide alike\n", "")
    (summary,) = lines(diff(renamed, "--json")[1])
    assert summary == {
        "kind": "summary",
        "differences": 0,
        "limits": 0,
        "shown": 0,
        "layers": 0,
        "changed_filters": 0,
        "compared_filters": 0,
        "complete": True,
    }


def test_people_get_each_kind_with_an_example(diff: Run) -> None:
    status, out, _ = diff(BEFORE.replace("443", "8443"))
    assert status == 1
    assert out.splitlines() == [
        "2 kinds of indications are decided differently, at 1 layer",
        "ALE_AUTH_CONNECT_V4: permitted by 'the web' in UNIVERSAL → blocked by 'nothing else' in UNIVERSAL",
        "    for example: app /x/curl, protocol tcp, remote_port 443",
        "ALE_AUTH_CONNECT_V4: blocked by 'nothing else' in UNIVERSAL → permitted by 'the web' in UNIVERSAL",
        "    for example: app /x/curl, protocol tcp, remote_port 8443",
    ]


def test_a_witness_can_be_explained_by_both(diff: Run, capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(diff(BEFORE.replace("443", "8443"), "--json")[1])
    assert [line["kind"] for line in told] == ["difference", "difference", "summary"]
    for line in told[:-1]:
        Path("w.json").write_text(json.dumps(line["witness"]) + "\n", encoding="utf-8")
        for file, side in (("a.toml", line["before"]), ("b.toml", line["after"])):
            assert main(["explain", "--policy", file, "--indication", "w.json", "--json"]) == 0
            (verdict,) = lines(capsys.readouterr().out)
            assert (verdict["action"], verdict["filter_name"]) == (side["action"], side["filter_name"])


def test_another_errno_is_a_difference(diff: Run) -> None:
    status, out, _ = diff(BEFORE.replace('action = "block"', 'action = "block"\nerror = "ECONNREFUSED"'), "--json")
    difference, _ = lines(out)
    assert (status, difference["before"]["error"], difference["after"]["error"]) == (1, None, 111)


def test_no_more_kinds_are_shown_than_are_wanted(diff: Run) -> None:
    after = BEFORE.replace("443", "8443")
    assert diff(after, "--limit", "1")[1].splitlines()[-1] == "and 1 kinds more (--limit)"
    assert lines(diff(after, "--limit", "0", "--json")[1])[0]["differences"] == 2


def test_dumps_are_compared(diff: Run, capsys: pytest.CaptureFixture[str]) -> None:
    diff("")
    rows = [row for row in example.ROWS if row.id != 70003]
    Path("before.xml").write_text(composer.filters(example.ROWS), encoding="utf-8")
    Path("after.xml").write_text(composer.filters(rows), encoding="utf-16")
    assert main(["diff", "before.xml", "before.xml"]) == 0
    capsys.readouterr()
    assert main(["diff", "before.xml", "after.xml", "--json"]) == 1
    told = lines(capsys.readouterr().out)
    befores = {(line["before"]["action"], line["before"]["filter"]) for line in told[:-1]}
    assert befores == {("block", 70003)}
    assert told[-1]["complete"]


def test_real_dumps_are_compared_with_themselves_and_with_one_filter_less(
    diff: Run, shared_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diff("")
    path = shared_dir / "windows" / "filters-2026.xml"
    text = path.read_text(encoding="utf-8-sig")
    block = text.rindex("FWP_ACTION_BLOCK")  # a filter that a running system hears
    start = text.rindex(
        "\t\t<item>\n\t\t\t<filterKey>" if "\r" not in text else "\t\t<item>\r\n\t\t\t<filterKey>", 0, block
    )
    end = text.index("\t\t</item>", block) + len("\t\t</item>")
    Path("less.xml").write_text(text[:start] + text[end:], encoding="utf-8")
    assert main(["diff", str(path), str(path)]) == 0
    capsys.readouterr()
    assert main(["diff", str(path), "less.xml", "--json"]) == 1
    told = lines(capsys.readouterr().out)
    assert told[-1]["changed_filters"] == 1
    assert {line["before"]["filter_name"] for line in told[:-1]} == {"WSH Default Outbound Block"}


@pytest.mark.parametrize(
    "words", [["diff"], ["diff", "a.toml"], ["diff", "a.toml", "nowhere.toml"], ["diff", "a.toml", "x.xml"]]
)
def test_wrong_input_is_2(diff: Run, words: list[str]) -> None:
    diff("")
    assert main(words) == 2


LIMITED = """
[[filter]]
name = "three at once"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
weight = 9
limit = { per = "remote_address", concurrent = 3 }

[[filter]]
name = "welcome"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "permit"
weight = 5
"""


def test_a_limit_that_changed_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text(LIMITED)
    after.write_text(LIMITED.replace("concurrent = 3", "concurrent = 4"))
    assert main(["diff", str(before), str(before)]) == 0
    capsys.readouterr()
    assert main(["diff", str(before), str(after)]) == 1
    assert capsys.readouterr().out == (
        "ALE_AUTH_RECV_ACCEPT: the limit of 'three at once': "
        "concurrent 3 per remote_address → concurrent 4 per remote_address\n"
    )
    assert main(["diff", str(before), str(after), "--json"]) == 1
    change, summary = lines(capsys.readouterr().out)
    assert (change["kind"], change["filter_name"]) == ("limit-change", "three at once")
    assert (summary["differences"], summary["limits"]) == (0, 1)
