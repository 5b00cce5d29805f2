"""`layergate explain`: one verdict, and why."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layergate.cli import main

Run = Callable[..., tuple[int, str, str]]


POLICY = """
[[sublayer]]
name = "top"
weight = 0x9000

[[sublayer]]
name = "baseline"
weight = 0x8000

[[filter]]
name = "loopback"
layer = ["ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT"]
sublayer = "top"
action = "permit"
hard = true
when.flags.all = ["loopback"]

[[filter]]
name = "the web"
layer = "ALE_AUTH_CONNECT"
sublayer = "baseline"
action = "permit"
when = { app = "/usr/bin/x-curl", protocol = "tcp", remote_port = [80, 443] }

[[filter]]
name = "nothing else leaves"
layer = "ALE_AUTH_CONNECT"
sublayer = "baseline"
weight = 0
action = "block"

[[filter]]
name = "nobody comes in"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when.local_port = 22
"""


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run explain with the policy; return (status, output, errors)."""
    path = tmp_path / "p.toml"
    path.write_text(POLICY, encoding="utf-8")

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["explain", *words, "--policy", str(path)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def values(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--value", pair)]


def verdict(explain: Run, *words: str) -> tuple[int, dict[str, Any]]:
    status, out, _ = explain(*words, "--json")
    (line,) = map(json.loads, out.splitlines())
    return status, line


def test_one_verdict_as_a_line(explain: Run) -> None:
    status, line = verdict(
        explain,
        "--layer",
        "ALE_AUTH_CONNECT",
        *values("app=/usr/bin/x-curl", "protocol=tcp", "remote_port=443", "remote_address=1.2.3.4"),
    )
    assert status == 0
    assert (line["kind"], line["layer"]) == ("verdict", "FWPM_LAYER_ALE_AUTH_CONNECT_V4")
    assert (line["action"], line["filter_name"], line["sublayer"], line["hard"]) == (
        "permit",
        "the web",
        "baseline",
        False,
    )
    top, baseline = line["sublayers"]
    assert (top["sublayer"], top["weight"], top["filter"]) == ("top", 0x9000, None)
    assert [one["filter_name"] for one in baseline["matched"]] == ["the web", "nothing else leaves"]
    assert [one["filter_name"] for one in baseline["lost"]] == ["nothing else leaves"]


LAYERS = [
    ("the addresses say IPv6", "ALE_AUTH_CONNECT", ["remote_address=::1"], "ALE_AUTH_CONNECT_V6"),
    ("the addresses say IPv4", "FWPM_LAYER_ALE_AUTH_CONNECT", ["IP_REMOTE_ADDRESS=1.2.3.4"], "ALE_AUTH_CONNECT_V4"),
    ("no address means IPv4", "ale_auth_connect", ["remote_port=1"], "ALE_AUTH_CONNECT_V4"),
    ("a mapped address is IPv4", "ALE_AUTH_CONNECT", ["remote_address=::ffff:1.2.3.4"], "ALE_AUTH_CONNECT_V4"),
    (
        "a mapped address beside an IPv4 one",
        "ALE_AUTH_CONNECT",
        ["remote_address=::ffff:1.2.3.4", "local_address=10.0.0.1"],
        "ALE_AUTH_CONNECT_V4",
    ),
    (
        "a mapped address at the V6 layer",
        "ALE_AUTH_CONNECT_V6",
        ["remote_address=::ffff:1.2.3.4"],
        "ALE_AUTH_CONNECT_V4",
    ),
    ("empty says nothing", "ALE_AUTH_CONNECT", ["remote_address=empty"], "ALE_AUTH_CONNECT_V4"),
    ("the name says IPv6", "ALE_AUTH_CONNECT_V6", [], "ALE_AUTH_CONNECT_V6"),
]


@pytest.mark.parametrize("layer, pairs, expected", [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])
def test_the_layer_s_family(explain: Run, layer: str, pairs: list[str], expected: object) -> None:
    status, line = verdict(explain, "--layer", layer, *values(*pairs))
    assert (status, line["layer"], line["action"]) == (1, f"FWPM_LAYER_{expected}", "block")


QUESTIONS = [
    ("connect tcp 10.0.0.1 -> 1.2.3.4:443 --app /usr/bin/x-curl", 0, "ALE_AUTH_CONNECT_V4", "the web"),
    ("connect tcp 10.0.0.1 → 1.2.3.4:443 --app /usr/bin/x-curl", 0, "ALE_AUTH_CONNECT_V4", "the web"),
    ("connect tcp 1.2.3.4:443 --app /usr/bin/x-wget", 1, "ALE_AUTH_CONNECT_V4", "nothing else leaves"),
    ("connect udp [2001:db8::1]:53", 1, "ALE_AUTH_CONNECT_V6", "nothing else leaves"),
    ("connect 127.0.0.1:8080", 0, "ALE_AUTH_CONNECT_V4", "loopback"),
    ("connect tcp ::1", 0, "ALE_AUTH_CONNECT_V6", "loopback"),
    ("accept tcp 1.2.3.4:5000 -> 10.0.0.1:22", 1, "ALE_AUTH_RECV_ACCEPT_V4", "nobody comes in"),
    ("accept tcp 10.0.0.1:22 <- 1.2.3.4:5000", 1, "ALE_AUTH_RECV_ACCEPT_V4", "nobody comes in"),
    ("accept tcp 10.0.0.1:80", 0, "ALE_AUTH_RECV_ACCEPT_V4", None),
    ("listen tcp :80", 0, "ALE_AUTH_LISTEN_V4", None),
    ("bind udp [::]:53", 0, "ALE_RESOURCE_ASSIGNMENT_V6", None),
    ("connect 1.2.3.4:22 --value flags=loopback", 0, "ALE_AUTH_CONNECT_V4", "loopback"),
]


@pytest.mark.parametrize("question, status, layer, name", QUESTIONS)
def test_a_question_in_words(explain: Run, question: str, status: int, layer: str, name: str | None) -> None:
    said, line = verdict(explain, *question.split())
    assert (said, line["layer"], line["filter_name"]) == (status, f"FWPM_LAYER_{layer}", name)


def test_people_get_the_answer_first_and_then_why(explain: Run) -> None:
    status, out, _ = explain(*["connect", "tcp", "10.0.0.1", "->", "1.2.3.4:22", "--app", "/usr/bin/x-curl"])
    answer, top, loopback, flags, baseline, web, app, protocol, port, rest, head, loop, web_port, policy = (
        out.splitlines()
    )
    assert status == 1
    assert answer == (
        "blocked at ALE_AUTH_CONNECT_V4 by 'nothing else leaves' in sublayer baseline: no permit above it matched"
    )
    assert top == "  sublayer top (weight 0x9000): nothing matched"
    assert loopback.split() == [
        "#1",
        "permit",
        "(hard)",
        "'loopback'",
        "weight",
        "0x1000000000",
        *["missed", "1", "of", "1", "test"],
    ]
    assert flags == "          ✗  flags  none set  asked for loopback (1 bit off)"
    assert baseline == "  sublayer baseline (weight 0x8000): hard block"
    assert web.endswith("missed 1 of 3 tests")
    assert app == "          ✓  app          /usr/bin/x-curl  asked for /usr/bin/x-curl"
    assert protocol == "          ✓  protocol     tcp              asked for tcp"
    assert port == "          ✗  remote_port  22               asked for 80 or 443 (58 away)"
    assert rest.endswith("matched, and decided for the sublayer")
    assert head == "  what would change it:"
    assert loop == "    flags = loopback: permitted by 'loopback'"
    assert web_port == "    remote_port = 80: permitted by 'the web'"
    assert policy.startswith("    a permit heavier than 0x0 in baseline")


def test_of_many_filters_those_that_matched_and_the_nearest_misses_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.toml"
    rules = (
        f'[[filter]]\nname = "p{port}"\nlayer = "ALE_AUTH_CONNECT_V4"\naction = "block"\nwhen.remote_port = {port}\n'
        for port in range(1000, 1100)
    )
    path.write_text("\n".join(rules), encoding="utf-8")
    words = ["explain", "--policy", str(path), "--layer", "ALE_AUTH_CONNECT_V4", "--value", "remote_port=1050"]
    assert main(words) == 1
    out = capsys.readouterr().out
    shown = [line.split("'")[1] for line in out.splitlines() if line.startswith("    #")]
    assert shown == ["p1047", "p1048", "p1049", "p1050", "p1051", "p1052"]
    assert "and 94 filters more that missed (--all shows them)" in out
    assert main([*words, "--all"]) == 1
    assert capsys.readouterr().out.count("    #") == 100


ANSWERS = [
    (
        "connect ::1",
        "permitted at ALE_AUTH_CONNECT_V6 by 'loopback' in sublayer top: it is hard, so the block 'nothing",
    ),
    ("listen :80", "permitted at ALE_AUTH_LISTEN_V4: no filter matched"),
    (
        "connect tcp 1.2.3.4:80 --app /usr/bin/x-curl",
        "permitted at ALE_AUTH_CONNECT_V4 by 'the web' in sublayer baseline: no block",
    ),
]


@pytest.mark.parametrize("question, answer", ANSWERS)
def test_the_short_answer(explain: Run, question: str, answer: str) -> None:
    assert explain(*question.split())[1].startswith(answer)


WRONG = [
    (
        "a field that the layer lacks",
        ["--layer", "ALE_AUTH_LISTEN", *values("protocol=tcp")],
        "has no field 'protocol'",
    ),
    ("an unknown field", ["--layer", "ALE_AUTH_CONNECT", *values("remote_prt=1")], "did you mean 'remote_port'?"),
    ("an unknown layer", ["--layer", "ALE_AUTH_CONECT"], "did you mean 'ALE_AUTH_CONNECT'?"),
    ("a wrong value", ["--layer", "ALE_AUTH_CONNECT", *values("remote_port=x")], "unknown value 'x'"),
    ("no value", ["--layer", "ALE_AUTH_CONNECT", *values("remote_port")], "--value FIELD=VALUE"),
    ("a value twice", ["--layer", "ALE_AUTH_CONNECT", *values("remote_port=1", "IP_REMOTE_PORT=2")], "given twice"),
    (
        "both families",
        ["--layer", "ALE_AUTH_CONNECT", *values("remote_address=::1", "local_address=1.1.1.1")],
        "both families",
    ),
    (
        "an address of the other family",
        ["--layer", "ALE_AUTH_CONNECT_V6", *values("remote_address=1.1.1.1")],
        "no IPv6 address",
    ),
    ("no question", [], "not one question"),
    ("two questions", ["connect", "1.1.1.1", "--layer", "STREAM"], "not one question"),
    ("an unknown event", ["conect", "1.1.1.1"], "did you mean 'connect'?"),
    ("no endpoint", ["connect", "tcp", "->", "nowhere"], "'nowhere' is no endpoint"),
    ("no such file", ["--indication", "/no/such/file"], "can't be read"),
    ("values beside indications", ["--indication", "-", *values("a=1")], "beside --indication"),
]


@pytest.mark.parametrize("words, found", [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_question_that_makes_no_sense_is_2(explain: Run, words: list[str], found: str) -> None:
    status, out, err = explain(*words)
    assert (status, out) == (2, "")
    assert found in err
    status, out, err = explain(*words, "--json")
    (line,) = map(json.loads, out.splitlines())
    assert (status, err, line["kind"]) == (2, "", "error")
    assert found in line["found"] + line["accepted"]


def indication(layer: str, **given: object) -> str:
    return json.dumps({"kind": "indication", "layer": f"FWPM_LAYER_{layer}", "values": given})


def test_recorded_indications_get_a_verdict_each_in_order(explain: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        indication("ALE_AUTH_CONNECT_V4", IP_REMOTE_PORT=22),
        '{"kind":"endpoint"}',
        "",
        indication("ALE_AUTH_CONNECT_V6", IP_REMOTE_ADDRESS="::ffff:1.2.3.4", FLAGS=1),
        indication("STREAM_V4", DIRECTION=1, IP_LOCAL_PORT=None),
        '{"kind":"summary"}',
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    status, out, _ = explain("--indication", "-", "--json")
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(line["layer"][11:], line["action"], line["filter_name"]) for line in verdicts] == [
        ("ALE_AUTH_CONNECT_V4", "block", "nothing else leaves"),
        ("ALE_AUTH_CONNECT_V4", "permit", "loopback"),
        ("STREAM_V4", "permit", None),
    ]


@pytest.mark.parametrize(
    "bad, found",
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        (indication("NOWHERE"), "unknown layer"),
        (indication("STREAM_V4", IP_PROTOCOL=6), "has no field"),
        (indication("STREAM_V4", IP_LOCAL_PORT="x"), "IP_LOCAL_PORT = 'x'"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(explain: Run, tmp_path: Path, bad: str, found: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(f"{indication('STREAM_V4')}\n\n{bad}\n", encoding="utf-8")
    status, out, _ = explain("--indication", str(path), "--json")
    first, error = map(json.loads, out.splitlines())
    assert (status, first["kind"]) == (2, "verdict")
    assert (error["kind"], error["file"], error["line"]) == ("error", str(path), 3)
    assert found in error["found"]


LIMITED = """
[[filter]]
name = "twenty at once"
layer = "ALE_AUTH_RECV_ACCEPT"
action = "block"
when = { local_port = 443 }
limit = { per = "remote_prefix", concurrent = 20 }
"""


@pytest.fixture
def limited(tmp_path: Path) -> Path:
    path = tmp_path / "limited.toml"
    path.write_text(LIMITED)
    return path


ATTEMPT = ["accept", "tcp", "10.0.0.9:40000", "->", "10.0.0.1:443"]


def test_a_limit_that_nobody_reached_lets_go_on_and_is_shown(limited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *ATTEMPT, "--policy", str(limited)]) == 0
    told = capsys.readouterr().out
    assert "matched, and its limit let go on" in told
    assert "limit concurrent 20 per remote_prefix /24 /64: 0 of 10.0.0.0/24, not past it" in told


def test_a_count_past_the_limit_decides_and_the_line_has_both(
    limited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *ATTEMPT, "--policy", str(limited), "--count", "twenty at once=21", "--json"]) == 1
    line = json.loads(capsys.readouterr().out)
    (told,) = line["sublayers"][0]["limits"]
    assert (told["filter_name"], told["key"]) == ("twenty at once", "10.0.0.0/24")
    assert (told["count"], told["limit"], told["past"]) == (21, 20, True)
    assert (line["action"], line["filter_name"]) == ("block", "twenty at once")


@pytest.mark.parametrize(
    "said, found",
    [("nobody=3", "no filter of that name has a limit"), ("twenty at once=many", "'many' is no count")],
)
def test_a_count_that_makes_no_sense_is_refused(
    limited: Path, capsys: pytest.CaptureFixture[str], said: str, found: str
) -> None:
    assert main(["explain", *ATTEMPT, "--policy", str(limited), "--count", said]) == 2
    assert found in capsys.readouterr().err
