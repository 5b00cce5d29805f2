"""Conditions that only a real host gives values to: who it is, where it runs, over which interface."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Tracer, control_group, ip, neighbour

pytestmark = pytest.mark.live

ATTEMPT = """
    listener = listen()
    report(attempt(connect, "127.0.0.1", listener.getsockname()[1]))
"""


def blocks(when: str, at: str = "ALE_AUTH_CONNECT") -> str:
    """Return a policy that blocks *when*, and nothing else."""
    return f"""
        [[filter]]
        name = "no"
        layer = "{at}"
        action = "block"
        when = {{ {when} }}
    """


@pytest.fixture
def other_python(tmp_path: Path) -> Iterator[str]:
    """Another executable that runs the same programs: a copy of Python's."""
    copy = tmp_path / "another-python"
    shutil.copy(PYTHON, copy)
    yield str(copy)
    copy.unlink()


def test_an_application_is_told_by_its_executable(trace: Tracer, other_python: str) -> None:
    trace.reload(blocks(f'app = "{other_python}"'))
    assert trace.run(ATTEMPT).report == ["done"]
    told = trace.run(ATTEMPT, python=other_python)
    assert told.report == ["EPERM"]
    (decided,) = told.at("ALE_AUTH_CONNECT")
    assert decided["process"]["app"] == other_python
    assert decided["values"]["ALE_APP_ID"] == other_python


def test_an_application_may_be_named_by_a_symbolic_link(trace: Tracer, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(PYTHON)
    trace.reload(blocks(f'app = "{link}"'))
    told = trace.run(ATTEMPT)
    assert told.report == ["EPERM"]
    assert told.at("ALE_AUTH_CONNECT")[0]["process"]["app"] == PYTHON


def test_an_application_that_is_replaced_is_the_same_within_a_second(trace: Tracer, other_python: str) -> None:
    trace.reload(blocks(f'app = "{other_python}"'))
    assert trace.run(ATTEMPT, python=other_python).report == ["EPERM"]
    new = Path(f"{other_python}.new")
    shutil.copy(PYTHON, new)
    new.rename(other_python)
    trace.run("time.sleep(1.1)")
    assert trace.run(ATTEMPT, python=other_python).report == ["EPERM"]


def test_an_application_that_appears_later_is_recognised_within_a_second(trace: Tracer, tmp_path: Path) -> None:
    later = tmp_path / "later"
    trace.reload(blocks(f'app = "{later}"'))
    shutil.copy(PYTHON, later)
    trace.run("time.sleep(1.1)")
    assert trace.run(ATTEMPT, python=str(later)).report == ["EPERM"]


def test_all_but_one_application(trace: Tracer, other_python: str) -> None:
    trace.reload(blocks(f'app = {{ not = "{PYTHON}" }}'))
    assert trace.run(ATTEMPT).report == ["done"]
    assert trace.run(ATTEMPT, python=other_python).report == ["EPERM"]


def test_a_user_is_who_the_process_is_when_it_connects(trace: Tracer) -> None:
    trace.reload(blocks("user = 12345"))
    told = trace.run("""
        listener = listen()
        before = attempt(connect, "127.0.0.1", listener.getsockname()[1])
        os.setuid(12345)
        report(before, attempt(connect, "127.0.0.1", listener.getsockname()[1]))
    """)
    assert told.report == ["done", "EPERM"]
    assert [line["process"]["user"] for line in told.at("ALE_AUTH_CONNECT")] == [0, 12345]
    assert [line["values"]["ALE_USER_ID"] for line in told.at("ALE_AUTH_CONNECT")] == [0, 12345]


def test_a_user_may_be_named(trace: Tracer) -> None:
    trace.reload(blocks('user = "root"'))
    assert trace.run(ATTEMPT).report == ["EPERM"]


def test_a_unit_is_a_control_group_and_what_is_below_it(trace: Tracer) -> None:
    with control_group("unit") as outside:
        name = f"{trace.cgroup.path}/lg-inner"
        inner = trace.make_group(name)
        below = trace.make_group(f"{name}/lg-below")
        try:
            trace.reload(blocks(f'unit = "{name}"'))
            assert trace.run(ATTEMPT).report == ["done"]
            told = trace.run(ATTEMPT, group=inner)
            assert told.report == ["EPERM"]
            assert told.at("ALE_AUTH_CONNECT")[0]["values"]["ALE_PACKAGE_ID"] == name
            assert trace.run(ATTEMPT, group=below).report == ["EPERM"]
            assert trace.run(ATTEMPT, group=outside).report == ["done"]
        finally:
            for group in (below, inner):
                trace.remove_group(group)


def test_a_unit_that_appears_later_is_recognised_within_a_second(trace: Tracer) -> None:
    name = f"{trace.cgroup.path}/lg-later"
    trace.reload(blocks(f'unit = "{name}"'))
    inner = trace.make_group(name)
    try:
        trace.run("time.sleep(1.1)")
        assert trace.run(ATTEMPT, group=inner).report == ["EPERM"]
    finally:
        trace.remove_group(inner)


@pytest.mark.parametrize(
    "direction,hosts", [("inbound", {"server"}), ("outbound", {"client"})], ids=["inbound", "outbound"]
)
def test_a_direction_is_that_of_the_flow(trace: Tracer, direction: str, hosts: set[str]) -> None:
    trace.reload(f"""
        [[filter]]
        name = "this way"
        layer = "ALE_FLOW_ESTABLISHED"
        action = "permit"
        when = {{ direction = "{direction}" }}
    """)
    told = trace.run("listener, client, accepted = pair()")
    assert {line["host"] for line in told.at("ALE_FLOW_ESTABLISHED") if line["filter_name"] == "this way"} == hosts


@pytest.mark.parametrize("at", ["ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT", "OUTBOUND_TRANSPORT", "INBOUND_IPPACKET"])
def test_loopback_is_a_flag(trace: Tracer, at: str) -> None:
    trace.reload(blocks('flags = { none = ["loopback"] }', at))
    assert trace.run(ATTEMPT).report == ["done"]
    trace.reload(blocks('flags = { all = ["loopback"] }', at))
    told = trace.run(ATTEMPT.replace("[1])", "[1], seconds=0.3)"))
    assert told.report == (["EPERM"] if at == "ALE_AUTH_CONNECT" else told.report)
    assert told.report != ["done"]


def test_a_connect_to_an_own_address_is_loopback_at_every_layer(trace: Tracer, netns: str) -> None:
    """A packet to an own address goes over lo whatever the address, and the connect layers say so too."""
    ip("-n", netns, "addr", "add", "10.77.0.1/24", "dev", "lo")
    try:
        told = trace.run("""
            listener = listen("10.77.0.1")
            report(attempt(connect, "10.77.0.1", listener.getsockname()[1]))
        """)
        assert told.report == ["done"]
        flags = {line["layer"]: line["values"]["FLAGS"] & 1 for line in told.indications if line["host"] == "client"}
        packets = {name: flag for name, flag in flags.items() if "BOUND_" in name}
        assert set(packets.values()) == {1}
    finally:
        ip("-n", netns, "addr", "del", "10.77.0.1/24", "dev", "lo")


def test_an_interface_is_known_by_its_name(trace: Tracer, netns: str) -> None:
    """The name is resolved in the namespace of the trace."""
    with neighbour(netns):
        trace.reload(blocks('interface = "lg-here"', "OUTBOUND_IPPACKET"))
        told = trace.run("""
            listener = listen()
            report(attempt(connect, "127.0.0.1", listener.getsockname()[1]),
                   attempt(connect, "10.78.0.2", 9, seconds=0.3))
        """)
    assert told.report == ["done", "timeout"]


def test_an_interface_that_appears_later_is_attached_within_a_second(trace: Tracer, netns: str) -> None:
    with neighbour(netns):
        trace.run("time.sleep(0.7)")
        told = trace.run('report(attempt(connect, "10.78.0.2", 9, seconds=0.5))')
    assert told.report == ["ECONNREFUSED"]
    assert [line["host"] for line in told.at("OUTBOUND_IPPACKET")] == ["client"]
    assert [line["event"] for line in told.at("INBOUND_IPPACKET")] == ["RST"]
    assert not [line for line in told.indications if line["host"] == "server"]
