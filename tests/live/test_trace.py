"""`layergate trace` as a command: what its lines hold to, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.live import lab
from tests.live.lab import Line, Told, finished, namespace, parse, table
from tests.live.test_flows import ESTABLISHMENT, until_established

pytestmark = pytest.mark.live

SESSION = """
import sys
from ends import *
for address in ("127.0.0.1", "::1"):
    listener, client, accepted = pair(address)
    client.sendall(b"question")
    accepted.recv(100)
    client.close()
    accepted.recv(1)
    accepted.close()
    listener.close()
print("the command's own words")
sys.exit(7)
"""
KEYS = [
    "kind", "time", "host", "event", "layer", "flow", "protocol", "local", "remote", "process", "action", "filter",
    "filter_name", "sublayer", "reauthorize", "version", "values",
]  # fmt: skip


@pytest.fixture(scope="module")
def traced(netns: str, tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """A trace of session.py, from its start to its end."""
    directory = tmp_path_factory.mktemp("session")
    (directory / "session.py").write_text(SESSION, encoding="utf-8")
    return finished(netns, command=["python3", "session.py"], cwd=directory)


@pytest.fixture
def lines(traced: "subprocess.CompletedProcess[str]") -> list[Line]:
    return parse(traced.stdout.splitlines())


def test_each_session_of_the_command_is_established_exactly_as_documented(lines: list[Line]) -> None:
    for version, ending in ((4, "_V4"), (6, "_V6")):
        documented = table(ESTABLISHMENT, version)
        told = Told(None, "", [one for one in lines if str(one.get("layer")).endswith(ending)])
        assert until_established(told.steps("client")) == documented["client"][:-2]
        assert until_established(told.steps("server")) == documented["server"]


def test_the_commands_status_is_the_traces(traced: "subprocess.CompletedProcess[str]", lines: list[Line]) -> None:
    assert traced.returncode == 7
    assert lines[-1]["command_exit"] == 7


def test_the_commands_words_go_to_standard_error(traced: "subprocess.CompletedProcess[str]") -> None:
    assert "the command's own words" in traced.stderr.splitlines()


def test_kind_is_the_first_key_and_a_summary_the_last_line(lines: list[Line]) -> None:
    assert {next(iter(one)) for one in lines} == {"kind"}
    assert [one["kind"] for one in lines if one["kind"] == "summary"] == ["summary"]
    assert lines[-1]["kind"] == "summary"


def test_the_summary_counts_what_was_told_and_loses_nothing(lines: list[Line]) -> None:
    *told, summary = lines
    assert summary["losses"] == 0
    assert summary["indications"] == len([one for one in told if one["kind"] == "indication"])
    assert summary["flows"] == len({one["flow"] for one in told if one["flow"] is not None})
    assert abs(float(str(summary["epoch"])) - time.time()) < 3600


def test_an_indication_has_the_documented_keys(lines: list[Line]) -> None:
    assert {tuple(one) for one in lines if one["kind"] == "indication"} == {tuple(KEYS)}


def test_flows_count_from_one_and_a_listener_has_none(lines: list[Line]) -> None:
    told = Told(None, "", lines[:-1])
    assert told.flows == [1, 2]
    listening = [one for one in told.indications if one["host"] == "server" and one["event"] in ("bind", "listen")]
    assert {one["flow"] for one in listening} == {None}
    assert {one["flow"] for one in told.indications if one["host"] == "client"} == {1, 2}


def test_times_count_from_the_start_in_seconds(lines: list[Line]) -> None:
    times = [float(str(one["time"])) for one in lines[:-1]]
    assert all(0 <= one < lab.START_S_MAX for one in times)
    # Not monotonic to the microsecond, but never far from it.
    assert all(later > earlier - 0.001 for earlier, later in pairwise(times))


def test_every_line_names_the_process_and_its_executable(lines: list[Line]) -> None:
    processes = [one["process"] for one in lines[:-1]]
    assert len({process["pid"] for process in processes if isinstance(process, dict)}) == 1
    for process in processes:
        assert isinstance(process, dict)
        assert Path(process["app"]).name.startswith("python3")
        assert (process["user"], process["unit"]) == (0, None)


def test_nothing_is_decided_where_no_filter_is(lines: list[Line]) -> None:
    assert {(one["action"], one["filter"], one["filter_name"], one["sublayer"]) for one in lines[:-1]} == {
        ("permit", None, None, None)
    }


def test_ends_are_written_as_address_and_port(lines: list[Line]) -> None:
    connected = [one for one in lines[:-1] if one["event"] == "established"]
    v4, v6 = ([one for one in connected if str(one["layer"]).endswith(end)] for end in ("_V4", "_V6"))
    assert {str(one["remote"]).rpartition(":")[0] for one in v4} == {"127.0.0.1"}
    assert {str(one["remote"]).rpartition(":")[0] for one in v6} == {"[::1]"}
    assert all({one["local"], one["remote"]} == {v4[0]["local"], v4[0]["remote"]} for one in v4)


# --- how it ends ----------------------------------------------------------------------------------------------------


def nothing_left(before: set[str]) -> None:
    """Assert that no control group is left but those of *before*."""
    assert lab.control_groups() <= before


@pytest.mark.parametrize(
    "command,status",
    [
        pytest.param(["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM, id="killed by a signal"),
        pytest.param(["/no/such/command"], 2, id="no such command"),
        pytest.param(["/etc/passwd"], 2, id="not executable"),
    ],
)
def test_the_exit_status_says_how_the_command_ended(netns: str, command: list[str], status: int) -> None:
    before = lab.control_groups()
    ended = finished(netns, command=command)
    assert ended.returncode == status
    nothing_left(before)
    if status == 2:
        assert [one["kind"] for one in parse(ended.stdout.splitlines())] == ["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_trace_and_leaves_nothing_attached(tmp_path: Path, number: int) -> None:
    before = lab.control_groups()
    with namespace("signal") as own:
        policy = tmp_path / "policy.toml"
        policy.write_text('[[filter]]\nname = "nothing leaves"\nlayer = "ALE_AUTH_CONNECT"\naction = "block"\n')
        command = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
        with subprocess.Popen(
            lab.inside(own, lab.LAYERGATE, "trace", "--policy", str(policy), "--json", "--", *command),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as trace:  # fmt: skip
            assert trace.stderr is not None
            assert trace.stdout is not None
            assert "ready" in trace.stderr.readline()
            assert lab.attached_programs(own) == 2
            # As a terminal does: to the whole group, the command too.
            os.killpg(trace.pid, number)
            output = trace.stdout.read()
            assert trace.wait(10) == 128 + number
        assert parse(output.splitlines())[-1]["command_exit"] == 128 + number
        assert lab.attached_programs(own) == 0
    nothing_left(before)


def test_what_already_runs_is_traced_until_it_is_interrupted() -> None:
    with namespace("running") as own, lab.control_group("running") as group:
        with subprocess.Popen(
            lab.inside(own, lab.LAYERGATE, "trace", "--cgroup", group.path, "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as trace:  # fmt: skip
            assert trace.stderr is not None
            assert trace.stdout is not None
            assert group.path in trace.stderr.readline()
            lab.run_in(own, group, "listener, client, accepted = pair()")
            time.sleep(0.2)
            trace.send_signal(signal.SIGINT)
            output = trace.stdout.read()
            assert trace.wait(10) == 0
        told = Told(None, "", parse(output.splitlines())[:-1])
        documented = table(ESTABLISHMENT, 4)
        assert until_established(told.steps("client")) == documented["client"][:-2]
        assert until_established(told.steps("server")) == documented["server"]
        assert {one["process"]["unit"] for one in told.indications} == {group.path}
        assert parse(output.splitlines())[-1]["command_exit"] is None


def test_a_session_that_is_older_than_the_trace_is_authorised_and_can_be_blocked(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("")
    script = """
        listener, client, accepted = pair()
        pause()
        client.sendall(b"x")
        accepted.recv(1)
        pause()
        client.sendall(b"y")
        report(attempt(accepted.recv, 1), attempt(client.recv, 1))
    """
    with namespace("older") as own, lab.control_group("older") as group:
        with (
            lab.start_in(own, group, script) as session,
            subprocess.Popen(
                lab.inside(own, lab.LAYERGATE, "trace", "--policy", str(policy), "--cgroup", group.path, "--json"),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ) as trace,
        ):  # fmt: skip
            assert session.stdout is not None
            assert trace.stderr is not None
            assert trace.stdout is not None
            assert session.stdout.readline() == "\n"
            assert group.path in trace.stderr.readline()
            assert session.stdin is not None
            session.stdin.write("\n")
            session.stdin.flush()
            assert session.stdout.readline() == "\n"
            policy.write_text('[[filter]]\nname = "no"\nlayer = "ALE_AUTH_RECV_ACCEPT"\naction = "block"\n')
            trace.send_signal(signal.SIGHUP)
            assert "in force" in trace.stderr.readline()
            assert '["ECONNABORTED", "ECONNRESET"]' in session.communicate("\n", timeout=10)[0]
            trace.send_signal(signal.SIGINT)
            lines = parse(trace.stdout.read().splitlines())
            assert trace.wait(10) == 0
        again = [(one["host"], one["layer"], one["action"]) for one in lines if one.get("reauthorize")]
        assert again == [
            ("client", "FWPM_LAYER_ALE_AUTH_CONNECT_V4", "permit"),
            ("server", "FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4", "permit"),
            ("server", "FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4", "block"),
            ("server", "FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4_DISCARD", "permit"),
        ]
