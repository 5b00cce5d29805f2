"""A policy that is wrong: every problem with place, finding and remedy; nothing attached, the command not started."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import lab
from tests.live.lab import LAYERGATE, Tracer, inside

pytestmark = pytest.mark.live

FILTER = '[[filter]]\nname = "{name}"\nlayer = "{layer}"\naction = "block"\n{more}\n'


def one(name: str = "f", layer: str = "ALE_AUTH_CONNECT", more: str = "") -> str:
    """Return one filter."""
    return FILTER.format(name=name, layer=layer, more=more)


BAD = {
    "a syntax error": (one() + "[[filter\n", 6),
    "an unknown layer": (one(layer="ALE_AUTH_CONECT"), 3),
    "a field that the layer lacks": (one(layer="INBOUND_IPPACKET", more="when = { remote_port = 1 }"), 5),
    "a field that the hook can't know": (one(more="when = { local_port = 1 }"), None),
    "a value of the wrong type": (one(more="when = { remote_port = true }"), 5),
    "a range upside down": (one(more='when = { remote_port = "9-1" }'), 5),
    "a name twice": (one() + one(), 7),
    "an unknown sublayer": (one(more='sublayer = "nowhere"'), 5),
    "an unknown key": (one(more="colour = 1"), 5),
    "an unknown flag": (one(more='when = { flags = { all = ["lopback"] } }'), 5),
    "an unknown error": (one(more='error = "EWHATEVER"'), 5),
    "a block that does nothing": (one(layer="STREAM"), None),
    "a layer without a hook": (one(layer="INGRESS_VSWITCH_ETHERNET"), None),
}


def traced(netns: str, policy: Path, *words: str) -> tuple["subprocess.CompletedProcess[str]", bool]:
    """Run trace with *policy*; return how it ended, and whether the command ran."""
    ran = policy.with_suffix(".ran")
    ended = subprocess.run(
        inside(netns, LAYERGATE, "trace", "--policy", str(policy), *words, "--", "touch", str(ran)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended, ran.exists()


@pytest.mark.parametrize("text,line", BAD.values(), ids=BAD.keys())
def test_a_policy_that_is_wrong_attaches_nothing(netns: str, tmp_path: Path, text: str, line: int | None) -> None:
    before = lab.control_groups()
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    ended, ran = traced(netns, policy)
    assert (ended.returncode, ran, ended.stdout) == (2, False, "")
    (problem,) = ended.stderr.splitlines()
    place, _, words = problem.partition(": ")
    assert place == (f"{policy}:{line}" if line else place)
    assert place.startswith(str(policy))
    found, _, remedy = words.partition("; ")
    assert found
    assert remedy
    assert lab.control_groups() == before


@pytest.mark.parametrize("text,line", BAD.values(), ids=BAD.keys())
def test_its_problems_are_error_lines_too(netns: str, tmp_path: Path, text: str, line: int | None) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    ended, ran = traced(netns, policy, "--json")
    assert (ended.returncode, ran) == (2, False)
    (problem,) = map(json.loads, ended.stdout.splitlines())
    assert list(problem) == ["kind", "file", "line", "object", "found", "accepted"]
    assert (problem["kind"], problem["file"]) == ("error", str(policy))
    assert line in (None, problem["line"])
    assert problem["found"]
    assert problem["accepted"]


def test_all_problems_of_a_file_are_told_at_once(netns: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        one("a", layer="NOWHERE") + one("b", more='when = { remote_port = "9-1" }') + one("c", more="x = 1")
    )
    ended, _ = traced(netns, policy)
    assert ended.returncode == 2
    assert [text.split(":")[1] for text in ended.stderr.splitlines()] == ["3", "10", "15"]


@pytest.mark.parametrize(
    "content",
    [
        random.Random(7).randbytes(10 << 20),
        b"x" * (10 << 20),
        b"[" * (10 << 20),
        Path(sys.executable).resolve().read_bytes()[: 1 << 20],
        b"\x00",
        b"\xff\xfe",
    ],
    ids=["10 MB at random", "10 MB of x", "10 MB of brackets", "a binary", "a zero", "no UTF-8"],
)
@pytest.mark.parametrize("name", ["policy.toml", "policy.json"])
def test_garbage_is_one_problem(netns: str, tmp_path: Path, name: str, content: bytes) -> None:
    policy = tmp_path / name
    policy.write_bytes(content)
    ended, ran = traced(netns, policy)
    assert (ended.returncode, ran, ended.stdout) == (2, False, "")
    (problem,) = ended.stderr.splitlines()
    assert problem.startswith(str(policy))
    assert len(problem) < 1000


def test_a_file_that_is_not_there_is_one_problem(netns: str, tmp_path: Path) -> None:
    ended, ran = traced(netns, tmp_path / "absent.toml")
    assert (ended.returncode, ran) == (2, False)
    assert len(ended.stderr.splitlines()) == 1
    assert str(tmp_path / "absent.toml") in ended.stderr


@pytest.mark.parametrize("text,_line", BAD.values(), ids=BAD.keys())
def test_a_reload_that_is_wrong_leaves_the_old_policy_in_force(trace: Tracer, text: str, _line: int | None) -> None:
    trace.reload(one("the old one", more="when = { remote_port = 9 }"))
    said = trace.try_reload(text)
    assert "stays in force" in said
    told = trace.run("report(attempt(connect, '127.0.0.1', 9))")
    assert told.report == ["EPERM"]
    assert told.at("ALE_AUTH_CONNECT")[0]["filter_name"] == "the old one"
