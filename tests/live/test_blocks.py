"""What a block does to the application, layer by layer, and who is named for it."""

import pytest

from tests.live.lab import Told, Tracer, layer

pytestmark = pytest.mark.live

SESSION = """
    listener, client, accepted = pair({address!r})
    client.sendall(b"x")
    accepted.recv(1)
"""
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
both_families = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


def block(at: str, more: str = "") -> str:
    """Return a policy that blocks at one layer."""
    return f"""
        [[filter]]
        name = "no"
        layer = "{at}"
        action = "block"
        {more}
    """


def blocked_at(told: Told) -> set[str]:
    """Return the layers, without family, at which something was blocked; by the one filter there is."""
    blocks = [line for line in told.indications if line["action"] == "block"]
    assert {line["filter_name"] for line in blocks} <= {"no"}
    return {layer(line).replace("_V4", "").replace("_V6", "") for line in blocks}


# --- calls that fail ----------------------------------------------------------------------------------------------


@both_families
@pytest.mark.parametrize("at", ["ALE_CONNECT_REDIRECT", "ALE_AUTH_CONNECT"])
@pytest.mark.parametrize(
    "asked,error", [(None, "EPERM"), ("ECONNREFUSED", "ECONNREFUSED"), ("EACCES", "EACCES"), ("EHOSTUNREACH",) * 2]
)
def test_a_blocked_connect_fails_with_the_error_that_was_asked_for(
    trace: Tracer, version: int, at: str, asked: str | None, error: str
) -> None:
    trace.reload(block(at, f'error = "{asked}"' if asked else ""))
    told = trace.run(f"""
        listener = listen({LOOPBACK[version]!r})
        report(attempt(connect, {LOOPBACK[version]!r}, listener.getsockname()[1]))
    """)
    assert told.report == [error]
    assert blocked_at(told) == {at}
    assert not told.at("OUTBOUND_TRANSPORT")


@both_families
@pytest.mark.parametrize("at", ["ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT"])
@pytest.mark.parametrize(
    "asked,error", [(None, "EPERM"), ("EADDRINUSE", "EADDRINUSE"), ("EADDRNOTAVAIL", "EADDRNOTAVAIL")]
)
def test_a_blocked_bind_fails_with_the_error_that_was_asked_for(
    trace: Tracer, version: int, at: str, asked: str | None, error: str
) -> None:
    trace.reload(block(at, f'error = "{asked}"' if asked else ""))
    told = trace.run(f"""
        one = socket.socket(socket.AF_INET6 if {version} == 6 else socket.AF_INET)
        report(attempt(one.bind, ({LOOPBACK[version]!r}, 0)))
        one.close()
    """)
    assert told.report == [error]
    assert blocked_at(told) == {at}
    assert {line["host"] for line in told.indications} == {None}


@both_families
@pytest.mark.parametrize("at", ["ALE_BIND_REDIRECT", "ALE_RESOURCE_ASSIGNMENT"])
def test_a_connect_whose_implicit_bind_is_blocked_fails(trace: Tracer, version: int, at: str) -> None:
    trace.reload(block(at, 'error = "EACCES"'))
    told = trace.run(f"report(attempt(connect, {LOOPBACK[version]!r}, 9))")
    assert told.report == ["EACCES"]
    assert blocked_at(told) == {at}


def test_a_second_connect_on_a_socket_whose_first_was_blocked_is_decided_anew(trace: Tracer) -> None:
    trace.reload(block("ALE_AUTH_CONNECT", 'when = { remote_port = 9 }\nerror = "EACCES"'))
    told = trace.run("""
        listener = listen()
        client = socket.socket()
        report(attempt(client.connect, ("127.0.0.1", 9)), attempt(client.connect, listener.getsockname()))
    """)
    assert told.report == ["EACCES", "done"]
    assert len(told.at("ALE_AUTH_CONNECT")) == 2
    assert len(told.at("ALE_BIND_REDIRECT")) == 2  # the listener's, and one of the client's


def test_a_blocked_connect_to_a_mapped_address_is_blocked_as_ipv4(trace: Tracer) -> None:
    trace.reload(block("ALE_AUTH_CONNECT_V4"))
    told = trace.run("""
        listener = listen("::")
        report(attempt(connect, "::ffff:127.0.0.1", listener.getsockname()[1]),
               attempt(connect, "::1", listener.getsockname()[1]))
    """)
    assert told.report == ["EPERM", "done"]


# --- listening and accepting --------------------------------------------------------------------------------------


@both_families
def test_where_listening_is_blocked_accept_fails_and_nobody_gets_in(trace: Tracer, version: int) -> None:
    trace.reload(block("ALE_AUTH_LISTEN"))
    told = trace.run(f"""
        listener = listen({LOOPBACK[version]!r})
        port = listener.getsockname()[1]
        accepted = attempt(listener.accept)
        client = attempt(connect, {LOOPBACK[version]!r}, port, seconds=0.3)
        report(accept=accepted, connect=client)
    """)
    assert isinstance(told.report, dict)
    assert told.report["accept"] == "EINVAL"
    assert told.report["connect"] in ("timeout", "ECONNREFUSED")
    assert blocked_at(told) == {"ALE_AUTH_LISTEN"}
    assert not told.at("ALE_FLOW_ESTABLISHED")


def test_nobody_gets_in_between_the_blocked_listen_and_its_end(trace: Tracer) -> None:
    trace.reload(block("ALE_AUTH_LISTEN"))
    told = trace.run("""
        outcomes = []
        for _ in range(20):
            listener = listen()
            outcomes.append(attempt(connect, "127.0.0.1", listener.getsockname()[1], seconds=0.05))
            listener.close()
        report(*sorted(set(outcomes)))
    """)
    assert isinstance(told.report, list)
    assert "done" not in told.report


@both_families
def test_where_accepting_is_blocked_the_syn_is_dropped(trace: Tracer, version: int) -> None:
    trace.reload(block("ALE_AUTH_RECV_ACCEPT"))
    told = trace.run(f"""
        listener = listen({LOOPBACK[version]!r})
        report(attempt(connect, {LOOPBACK[version]!r}, listener.getsockname()[1], seconds=0.3))
    """)
    assert told.report == ["timeout"]
    assert blocked_at(told) == {"ALE_AUTH_RECV_ACCEPT"}
    assert told.steps("server")[3:7] == [
        f"SYN INBOUND_IPPACKET_V{version}",
        f"SYN INBOUND_TRANSPORT_V{version}",
        f"SYN ALE_AUTH_RECV_ACCEPT_V{version} blocked",
        f"SYN ALE_AUTH_RECV_ACCEPT_V{version}_DISCARD",
    ]


def test_a_retransmitted_syn_is_decided_again(trace: Tracer) -> None:
    trace.reload(block("ALE_AUTH_RECV_ACCEPT"))
    told = trace.run(
        """
        listener = listen()
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        pause()
        time.sleep(1.5)
        client.settimeout(3)
        report(attempt(client.send, b"x"))
        """,
        lambda: trace.reload(""),
    )
    assert told.report == ["done"]
    assert [line["action"] for line in told.at("ALE_AUTH_RECV_ACCEPT")] == ["permit"]


@both_families
@pytest.mark.parametrize("direction,blocked", [("outbound", "client"), ("inbound", "server")])
def test_a_blocked_establishment_resets_the_connection(
    trace: Tracer, version: int, direction: str, blocked: str
) -> None:
    trace.reload(block("ALE_FLOW_ESTABLISHED", f'when = {{ direction = "{direction}" }}'))
    told = trace.run(f"""
        listener = listen({LOOPBACK[version]!r})
        def session():  # the reset may come before connect() has returned
            client = connect({LOOPBACK[version]!r}, listener.getsockname()[1])
            time.sleep(0.2)
            client.recv(1)
        report(attempt(session))
    """)
    assert told.report in (["ECONNRESET"], ["ECONNABORTED"])
    assert blocked_at(told) == {"ALE_FLOW_ESTABLISHED"}
    assert {line["host"] for line in told.indications if line["action"] == "block"} == {blocked}


# --- packets that vanish ------------------------------------------------------------------------------------------


@both_families
@pytest.mark.parametrize("at", ["OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET", "INBOUND_IPPACKET", "INBOUND_TRANSPORT"])
def test_a_blocked_packet_vanishes_and_is_shown_no_further(trace: Tracer, version: int, at: str) -> None:
    trace.reload(block(at))
    told = trace.run(f"""
        listener = listen({LOOPBACK[version]!r})
        report(attempt(connect, {LOOPBACK[version]!r}, listener.getsockname()[1], seconds=0.3))
    """)
    assert told.report[0] in ("timeout", "EPERM", "ECONNREFUSED")  # type: ignore[index]
    assert blocked_at(told) == {at}
    assert not told.at("ALE_FLOW_ESTABLISHED")
    packets = ["OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET", "INBOUND_IPPACKET", "INBOUND_TRANSPORT"]
    beyond = packets[packets.index(at) + 1 :]
    assert not [line for name in [*beyond, "ALE_AUTH_RECV_ACCEPT"] for line in told.at(name)]
    twins = [layer(line) for line in told.at(f"{at}_V{version}_DISCARD")]
    assert twins
    assert not told.drops


@pytest.mark.parametrize("at", ["OUTBOUND_TRANSPORT", "OUTBOUND_IPPACKET", "INBOUND_IPPACKET", "INBOUND_TRANSPORT"])
def test_a_live_session_stops_when_its_packets_are_blocked_and_goes_on_after(trace: Tracer, at: str) -> None:
    told = trace.run(
        """
        listener, client, accepted = pair()
        client.sendall(b"before"); accepted.recv(100)
        accepted.settimeout(0.3)
        pause()
        client.sendall(b"while")
        first = attempt(accepted.recv, 100)
        pause()
        accepted.settimeout(3)
        report(first, accepted.recv(100).decode())
        """,
        lambda: trace.reload(block(at)),
        lambda: trace.reload(""),
    )
    assert told.report == ["timeout", "while"]


def test_a_packet_that_is_blocked_by_its_flags_lets_the_others_pass(trace: Tracer) -> None:
    trace.reload(block("INBOUND_TRANSPORT", 'when = { remote_port = "1-1023" }'))
    told = trace.run("""
        listener = listen()
        port = listener.getsockname()[1]
        report(attempt(connect, "127.0.0.1", port, bound=("127.0.0.1", 999), seconds=0.3),
               attempt(connect, "127.0.0.1", port, bound=("127.0.0.1", 1999)))
    """)
    assert told.report == ["timeout", "done"]


# --- arbitration, as it is felt -----------------------------------------------------------------------------------

SUBLAYERS = """
    [[sublayer]]
    name = "above"
    weight = 0x9000
    [[sublayer]]
    name = "below"
    weight = 0x1000
    [[filter]]
    name = "let it"
    layer = "ALE_AUTH_CONNECT"
    sublayer = "above"
    action = "permit"
    hard = {hard}
    [[filter]]
    name = "no"
    layer = "ALE_AUTH_CONNECT"
    sublayer = "below"
    action = "block"
"""


@pytest.mark.parametrize(
    "hard,error,filter_name,sublayer",
    [
        pytest.param("false", "EPERM", "no", "below", id="a soft permit is overridden"),
        pytest.param("true", "done", "let it", "above", id="a hard permit stands"),
    ],
)
def test_sublayers_are_arbitrated(trace: Tracer, hard: str, error: str, filter_name: str, sublayer: str) -> None:
    trace.reload(SUBLAYERS.format(hard=hard))
    told = trace.run("""
        listener = listen()
        report(attempt(connect, "127.0.0.1", listener.getsockname()[1]))
    """)
    assert told.report == [error]
    (decided,) = told.at("ALE_AUTH_CONNECT")
    assert (decided["filter_name"], decided["sublayer"]) == (filter_name, sublayer)


@pytest.mark.parametrize(
    "protocol,call",
    [
        pytest.param(0, 'sendto, b"x", 0x20000000', id="MSG_FASTOPEN"),
        pytest.param(262, "connect", id="MPTCP"),
    ],
)
def test_no_other_way_to_connect_goes_round_a_block(trace: Tracer, protocol: int, call: str) -> None:
    trace.reload(block("ALE_AUTH_CONNECT"))
    told = trace.run(f"""
        listener = listen()
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, {protocol})
        client.settimeout(1)
        report(attempt(client.{call}, listener.getsockname()))
    """)
    assert told.report == ["EPERM"]
    assert not told.at("OUTBOUND_TRANSPORT")


@pytest.mark.parametrize(
    "at,more",
    [
        ("ALE_AUTH_LISTEN", ""),
        ("ALE_RESOURCE_ASSIGNMENT", 'when = { flags = { all = ["implicit_bind"] } }'),
        ("ALE_BIND_REDIRECT", 'when = { flags = { all = ["implicit_bind"] } }'),
    ],
)
def test_a_blocked_listen_that_was_not_bound_fails_too(trace: Tracer, at: str, more: str) -> None:
    trace.reload(block(at, more))
    told = trace.run("""
        listener = socket.socket()
        listener.settimeout(1)
        listener.listen()
        port = listener.getsockname()[1]
        report(attempt(listener.accept), attempt(connect, "127.0.0.1", port, bound=("127.0.0.1", 0), seconds=0.3))
    """)
    assert isinstance(told.report, list)
    assert told.report[0] == "EINVAL"
    assert told.report[1] in ("timeout", "ECONNREFUSED")


def test_a_packet_of_a_flow_that_was_not_to_be_established_names_that_layer(trace: Tracer) -> None:
    trace.reload(block("ALE_FLOW_ESTABLISHED", 'when = { direction = "inbound" }'))
    told = trace.run("""
        listener = listen()
        for _ in range(10):
            client = socket.socket()
            client.settimeout(1)
            attempt(client.connect, listener.getsockname())
            attempt(client.sendall, b"x")
        time.sleep(0.2)
    """)
    assert {(line["filter_name"], line["layer"]) for line in told.drops} <= {
        ("no", "FWPM_LAYER_ALE_FLOW_ESTABLISHED_V4")
    }
    assert told.drops
