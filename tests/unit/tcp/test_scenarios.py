"""Every scenario of tests/scenarios/tcp, and how the format refuses what it doesn't understand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.tcp.scenario import OF_CONNECTIONS, OF_LISTENERS, Player, ScenarioFailure
from tests.unit.tcp.scenario_lines import QUANTITIES, ScenarioError, parse, read

DIRECTORY = Path(__file__).parents[2] / "scenarios" / "tcp"
SCENARIOS = sorted(DIRECTORY.glob("*.txt"))

OPENED = """
+0     config timestamps=off window_scale=none
+0     connect
+0     > S 1000:1000(0) win 64240 <mss 1460>
+0.01  < S. 0:0(0) ack 1001 win 65535 <mss 1460>
+0     > . 1001:1001(0) ack 1
"""


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_happens_as_the_scenario_says(path: Path) -> None:
    Player().play(read(path))


def test_each_is_named_after_a_clause_or_a_behaviour_of_linux_and_says_first_what_it_shows() -> None:
    assert len(SCENARIOS) >= 45
    for path in SCENARIOS:
        assert re.fullmatch(r"(rfc\d+-[\d.]+|linux)-[a-z0-9-]+", path.stem), path.stem
        source = path.stem.split("-")[0]
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# Linux" if source == "linux" else ("# RFC", "# Linux")), path.stem
        assert all(len(line) <= 120 for line in path.read_text(encoding="utf-8").splitlines()), path.stem


BAD = {
    "connect": "x.txt:2: `connect`: a line is `+SECONDS [PORT:] WHAT`, such as `+0.01 > F. 1:1(0) ack 2`",
    "+0 > X 1:1(0)": "x.txt:2: `X 1:1(0)` is no segment: FLAGS FIRST:LAST(LENGTH) [ack N] [win N] [urg N] [<OPTIONS>]",
    "+0 > . 1:5(3) ack 1": "x.txt:2: from 1 to 5 it is not 3 bytes",
    "+0 > . 1:4(3)": "x.txt:2: `.` among the flags and `ack N` go together",
    "+0 < S 1:1(0) <mss big>": (
        "x.txt:2: `mss big` is no option: mss N, wscale N, TS val N ecr N, nop, sackOK, kind N"
    ),
    "+0 < S 1:1(0) <mss 99999>": (
        "x.txt:2: `mss 99999` is no option: mss N, wscale N, TS val N ecr N, nop, sackOK, kind N"
    ),
    "+0 state": "x.txt:2: `state` needs a value",
    "+0 config colour=red": "x.txt:2: `colour=red`: Config has no `colour`; write NAME=VALUE, `rfc` or `linux`",
    "+0 config retries=many": "x.txt:2: `retries=many`: invalid literal for int() with base 10: 'many'",
    "+0 config mss=1": "x.txt:2: `mss=1`: mss 1, mtu 1500: segments hold 48 to 65535 bytes",
    "+0 write": "x.txt:2: `write` needs a number of bytes",
    "+0 write some": "x.txt:2: `write some`: some is no number",
    "+0 state ESTABLISHED": "x.txt:2: `state`: there is no connection with port 50001",
    "+0 accept": "x.txt:2: `accept` before `listen`",
    "+0 waiting 1": "x.txt:2: `waiting` before `listen`",
    "+0 < icmp no luck 5": "x.txt:2: `icmp no luck 5`: write `icmp MEANING SEQ`, of network unreachable, ",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named_by_file_and_line_with_what_is_wrong(line: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        Player().play(parse(f"# a bad one\n{line}", "x.txt"))
    assert str(refused.value).startswith(BAD[line])


def test_an_unknown_verb_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ScenarioError) as refused:
        parse("+0 jump", "x.txt")
    assert str(refused.value).startswith("x.txt:1: `jump` is no call and no quantity; there are abort, accept, ")


def test_every_quantity_that_a_line_may_name_can_be_looked_at() -> None:
    assert {*OF_CONNECTIONS, *OF_LISTENERS} == QUANTITIES


def test_an_empty_scenario_is_refused() -> None:
    with pytest.raises(ScenarioError) as refused:
        parse("# nothing\n", "x.txt")
    assert str(refused.value) == "x.txt:1: nothing happens: a scenario has at least one line such as `+0 connect`"


UNLIKE = {
    "+0 write 10": "at 0.010000 s was sent, and no line expects it: 50001: > P. 1001:1011(10) ack 1 win 65535",
    "+0 > . 1:1(0) ack 1": "x.txt:7: `. 1:1(0) ack 1` was not sent; nothing was",
    "+0 write 10\n+0 > P. 1001:1012(11) ack 1": "but sent 50001: > P. 1001:1011(10) ack 1 win 65535",
    "+0 write 10\n+0.1 > P. 1001:1011(10) ack 1": "was sent at 0.010000 s, not at 0.110000 s",
    "+0 state CLOSED": "state is ESTABLISHED, not CLOSED",
    "+0 srtt 0.02": "srtt is 0.01, not 0.02",
    "+0 event Reset": "`Reset` was not told; there was Established",
    "+0 write 10 = 9": "it returned 10, not 9",
    "+0 < R 1:1(0) win 0": "50001 was told Reset(time=0.01), and no line says so",
    "+0 close\n+0 > F. 1001:1001(0) ack 1\n+0 write 1": "refused in FIN_WAIT_1",
}


@pytest.mark.parametrize("lines", UNLIKE)
def test_what_happens_otherwise_fails_with_what_did(lines: str) -> None:
    with pytest.raises(ScenarioFailure) as failed:
        Player().play(parse(OPENED + lines, "x.txt"))
    assert UNLIKE[lines] in str(failed.value)
