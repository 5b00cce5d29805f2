"""The documented flows from a live kernel, host by host: establishment, data, no listener, both reauthorizations.

The tables are those of Microsoft's "TCP Packet Flows" (the specification's tcp_flows.json, compared below).
"""

import json
from pathlib import Path

import pytest

from tests.live.lab import Tracer, layer, table

pytestmark = pytest.mark.live

ESTABLISHMENT = """
    server bind         ALE_BIND_REDIRECT
    server bind         ALE_RESOURCE_ASSIGNMENT
    server listen       ALE_AUTH_LISTEN
    client bind         ALE_BIND_REDIRECT
    client bind         ALE_RESOURCE_ASSIGNMENT
    client connect      ALE_CONNECT_REDIRECT
    client connect      ALE_AUTH_CONNECT
    client SYN          OUTBOUND_TRANSPORT
    client SYN          OUTBOUND_IPPACKET
    server SYN          INBOUND_IPPACKET
    server SYN          INBOUND_TRANSPORT
    server SYN          ALE_AUTH_RECV_ACCEPT
    server SYN-ACK      OUTBOUND_TRANSPORT
    server SYN-ACK      OUTBOUND_IPPACKET
    client SYN-ACK      INBOUND_IPPACKET
    client SYN-ACK      INBOUND_TRANSPORT
    client established  ALE_FLOW_ESTABLISHED
    client ACK          OUTBOUND_TRANSPORT
    client ACK          OUTBOUND_IPPACKET
    server ACK          INBOUND_IPPACKET
    server ACK          INBOUND_TRANSPORT
    server established  ALE_FLOW_ESTABLISHED
"""
NO_LISTENER = """
    server SYN  INBOUND_IPPACKET
    server SYN  INBOUND_TRANSPORT_DISCARD
    server RST  OUTBOUND_TRANSPORT
    server RST  OUTBOUND_IPPACKET
"""
DATA = """
    client data      STREAM
    client segment   OUTBOUND_TRANSPORT
    client datagram  OUTBOUND_IPPACKET
    server datagram  INBOUND_IPPACKET
    server segment   INBOUND_TRANSPORT
    server data      STREAM
"""
REAUTHORIZATION_PERMITTED = """
    server datagram  INBOUND_IPPACKET
    server segment   INBOUND_TRANSPORT
    server segment   ALE_AUTH_RECV_ACCEPT
    server data      STREAM
"""
REAUTHORIZATION_BLOCKED = """
    server datagram  INBOUND_IPPACKET
    server segment   INBOUND_TRANSPORT
    server segment   ALE_AUTH_RECV_ACCEPT
    server segment   ALE_AUTH_RECV_ACCEPT_DISCARD
"""
DOCUMENTED = {
    "tcp_establishment": ESTABLISHMENT,
    "tcp_syn_no_listener": NO_LISTENER,
    "tcp_data": DATA,
    "tcp_reauthorization_permitted": REAUTHORIZATION_PERMITTED,
    "tcp_reauthorization_blocked": REAUTHORIZATION_BLOCKED,
    "tcp_termination": "",
}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
OUTBOUND, INBOUND = 0, 1  # FWP_DIRECTION
IS_LOOPBACK, IS_REAUTHORIZE = 0x1, 0x4  # FWP_CONDITION_FLAG_…
ESTABLISHED = "established ALE_FLOW_ESTABLISHED"
PURE_ACK_SENT = ["segment OUTBOUND_TRANSPORT", "datagram OUTBOUND_IPPACKET"]
PURE_ACK_RECEIVED = ["datagram INBOUND_IPPACKET", "segment INBOUND_TRANSPORT"]

both_families = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


def test_the_tables_here_are_those_of_the_specification(shared_dir: Path) -> None:
    flows = json.loads((shared_dir / "spec/tcp_flows.json").read_text(encoding="utf-8"))["flows"]
    told = {name: [(one["host"], one["event"], one["layer"]) for one in steps] for name, steps in flows.items()}
    here = {
        name: [(host, *step.split()) for host, steps in table(text, 4).items() for step in steps]
        for name, text in DOCUMENTED.items()
    }
    assert {name: sorted(steps) for name, steps in told.items()} == {
        name: sorted((host, event, f"FWPM_LAYER_{layer}") for host, event, layer in steps)
        for name, steps in here.items()
    }


def until_established(steps: list[str]) -> list[str]:
    """Return *steps* up to ALE_FLOW_ESTABLISHED."""
    ends = [place for place, step in enumerate(steps) if step.startswith(ESTABLISHED)]
    return steps[: ends[0] + 1] if ends else steps


def after_established(steps: list[str]) -> list[str]:
    """Return *steps* behind ALE_FLOW_ESTABLISHED."""
    return steps[len(until_established(steps)) :]


def without_family(steps: list[str]) -> list[str]:
    """Return *steps* without _V4 and _V6."""
    return [step.replace("_V4", "").replace("_V6", "") for step in steps]


@both_families
def test_a_session_is_established_exactly_as_documented(trace: Tracer, version: int) -> None:
    told = trace.run(f"listener, client, accepted = pair({LOOPBACK[version]!r})")
    documented = table(ESTABLISHMENT, version)
    # The handshake's ACK follows the client's establishment, still before any data.
    assert told.steps("client")[: len(documented["client"])] == documented["client"]
    assert told.steps("server")[: len(documented["server"])] == documented["server"]
    assert not told.steps(None)


@both_families
def test_data_passes_as_documented_and_is_acknowledged(trace: Tracer, version: int) -> None:
    told = trace.run(f"""
        listener, client, accepted = pair({LOOPBACK[version]!r})
        client.sendall(b"question")
        accepted.recv(100)
        time.sleep(0.1)
        os._exit(0)
    """)
    documented, data = table(ESTABLISHMENT, version), table(DATA, version)
    client = told.steps("client")[len(documented["client"]) :]
    server = told.steps("server")[len(documented["server"]) :]
    assert client[:3] == data["client"]
    assert server[:3] == data["server"]
    assert without_family(server[3:5]) == PURE_ACK_SENT
    assert without_family(client[3:5]) == PURE_ACK_RECEIVED


def test_each_write_is_one_indication_of_the_stream_on_both_sides(trace: Tracer) -> None:
    told = trace.run("""
        listener, client, accepted = pair()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for text in (b"one", b"two", b"three"):
            client.sendall(text)
            accepted.recv(100)
        accepted.sendall(b"answer")
        client.recv(100)
    """)
    streams = [(line["host"], line["values"]["DIRECTION"]) for line in told.at("STREAM")]
    assert streams == [*[("client", OUTBOUND), ("server", INBOUND)] * 3, ("server", OUTBOUND), ("client", INBOUND)]


@both_families
@pytest.mark.parametrize("first", ["client", "accepted"], ids=["client first", "server first"])
def test_closing_ends_each_side_once_and_releases_what_was_bound(trace: Tracer, version: int, first: str) -> None:
    second = "accepted" if first == "client" else "client"
    told = trace.run(f"""
        listener, client, accepted = pair({LOOPBACK[version]!r})
        {first}.close()
        {second}.recv(1)
        {second}.close()
        listener.close()
    """)
    (flow,) = told.flows
    ends = [
        (line["host"], line["event"], line["flow"])
        for line in told.indications
        if line["event"] in ("closure", "release")
    ]
    assert sorted(ends, key=str) == sorted(
        [
            ("client", "release", flow),
            ("client", "closure", flow),
            ("server", "closure", flow),
            ("server", "closure", None),
            ("server", "release", None),
        ],
        key=str,
    )
    fins = [
        step for host in ("client", "server") for step in without_family(told.steps(host)) if step.startswith("FIN")
    ]
    passes = ["FIN OUTBOUND_TRANSPORT", "FIN OUTBOUND_IPPACKET", "FIN INBOUND_IPPACKET", "FIN INBOUND_TRANSPORT"]
    assert sorted(fins) == sorted(passes * 2)


@pytest.mark.parametrize("who", ["client", "accepted"])
def test_a_reset_passes_the_packet_layers_and_ends_both_sides(trace: Tracer, who: str) -> None:
    told = trace.run(f"""
        listener, client, accepted = pair()
        reset({who})
    """)
    sender, receiver = ("client", "server") if who == "client" else ("server", "client")
    rest = without_family(after_established(told.steps(sender, flow=told.flows[0])))
    assert [step for step in rest if step.startswith("RST")] == ["RST OUTBOUND_TRANSPORT", "RST OUTBOUND_IPPACKET"]
    other = without_family(after_established(told.steps(receiver, flow=told.flows[0])))
    assert [step for step in other if step.startswith("RST")] == ["RST INBOUND_IPPACKET", "RST INBOUND_TRANSPORT"]
    closures = [line["host"] for line in told.at("ALE_ENDPOINT_CLOSURE") if line["flow"]]
    assert sorted(closures) == ["client", "server"]


# --- nobody listens -------------------------------------------------------------------------------------------------


@both_families
def test_a_syn_that_finds_no_listener_is_answered_as_documented(trace: Tracer, version: int) -> None:
    told = trace.run(f"report(attempt(connect, {LOOPBACK[version]!r}, 9))")
    assert told.report == ["ECONNREFUSED"]
    assert told.steps("server") == table(NO_LISTENER, version)["server"]
    client = without_family(told.steps("client"))
    assert client == [
        *without_family(table(ESTABLISHMENT, version)["client"][:6]),
        "RST INBOUND_IPPACKET",
        "RST INBOUND_TRANSPORT",
        *sorted(client[8:]),
    ]
    assert sorted(client[8:]) == ["closure ALE_ENDPOINT_CLOSURE", "release ALE_RESOURCE_RELEASE"]


@both_families
def test_stealth_sends_no_reset_where_nobody_listens(trace: Tracer, version: int) -> None:
    trace.reload("""
        [[filter]]
        name = "stealth"
        layer = "INBOUND_TRANSPORT_DISCARD"
        action = "block"
    """)
    told = trace.run(f"report(attempt(connect, {LOOPBACK[version]!r}, 9, seconds=0.3))")
    assert told.report == ["timeout"]
    assert told.steps("server") == [
        *table(NO_LISTENER, version)["server"][:1],
        f"SYN INBOUND_TRANSPORT_V{version}_DISCARD blocked",
    ]
    assert [line["filter_name"] for line in told.at(f"INBOUND_TRANSPORT_V{version}_DISCARD")] == ["stealth"]


def test_a_port_that_someone_listens_on_again_is_no_longer_closed(trace: Tracer) -> None:
    trace.run("report(attempt(connect, '127.0.0.1', 2222))")
    told = trace.run("""
        listener = listen("127.0.0.1", 2222)
        client = connect("127.0.0.1", 2222)
    """)
    documented = table(ESTABLISHMENT, 4)
    assert told.steps("server")[: len(documented["server"])] == documented["server"]


# --- reauthorization ------------------------------------------------------------------------------------------------

SERVER_GOES_ON = """
    listener, client, accepted = pair({address!r})
    client.sendall(b"before")
    accepted.recv(100)
    time.sleep(0.1)
    pause()
    client.sendall(b"after")
    report(server=attempt(accepted.recv, 100), client=attempt(client.recv, 100))
"""


@both_families
def test_a_permitted_reauthorization_is_as_documented(trace: Tracer, version: int) -> None:
    script = SERVER_GOES_ON.format(address=LOOPBACK[version]).replace(
        "report", "accepted.recv(9); time.sleep(.1); os._exit(0) #"
    )
    told = trace.run(
        script,
        lambda: trace.reload("""
            [[filter]]
            name = "still welcome"
            layer = "ALE_AUTH_RECV_ACCEPT"
            action = "permit"
        """),
    )
    server = told.steps("server")
    documented = table(REAUTHORIZATION_PERMITTED, version)["server"]
    documented[2] += " again"
    assert server[:4] == documented
    assert without_family(server[4:6]) == PURE_ACK_SENT
    again = told.at("ALE_AUTH_RECV_ACCEPT")
    assert [(line["filter_name"], line["reauthorize"]) for line in again] == [("still welcome", True)]
    assert again[0]["values"]["FLAGS"] == IS_LOOPBACK | IS_REAUTHORIZE


@both_families
def test_a_blocked_reauthorization_is_as_documented_and_resets_the_connection(trace: Tracer, version: int) -> None:
    told = trace.run(
        SERVER_GOES_ON.format(address=LOOPBACK[version]),
        lambda: trace.reload("""
            [[filter]]
            name = "not any more"
            layer = "ALE_AUTH_RECV_ACCEPT"
            action = "block"
        """),
    )
    assert told.report == {"server": "ECONNABORTED", "client": "ECONNRESET"}
    server = told.steps("server")
    documented = table(REAUTHORIZATION_BLOCKED, version)["server"]
    documented[2] += " again blocked"
    documented[3] += " again"
    assert server[:4] == documented
    assert without_family(server[4:6]) == ["RST OUTBOUND_TRANSPORT", "RST OUTBOUND_IPPACKET"]
    assert [line["host"] for line in told.at("STREAM")] == ["client"]


def test_the_client_is_authorised_again_where_it_was_authorised(trace: Tracer) -> None:
    script = """
        listener, client, accepted = pair()
        accepted.sendall(b"before")
        client.recv(100)
        time.sleep(0.1)
        pause()
        accepted.sendall(b"after")
        report(client=attempt(client.recv, 100), server=attempt(accepted.recv, 100))
    """
    told = trace.run(
        script,
        lambda: trace.reload("""
            [[filter]]
            name = "not there"
            layer = "ALE_AUTH_CONNECT"
            action = "block"
        """),
    )
    assert told.report == {"client": "ECONNABORTED", "server": "ECONNRESET"}
    assert without_family(told.steps("client"))[:4] == [
        "datagram INBOUND_IPPACKET",
        "segment INBOUND_TRANSPORT",
        "segment ALE_AUTH_CONNECT again blocked",
        "segment ALE_AUTH_CONNECT_DISCARD again",
    ]


def test_a_permitted_flow_is_authorised_again_once(trace: Tracer) -> None:
    told = trace.run(
        """
        listener, client, accepted = pair()
        pause()
        for _ in range(5):
            client.sendall(b"more")
            accepted.recv(100)
        """,
        lambda: trace.reload("""
            [[filter]]
            name = "still welcome"
            layer = "ALE_AUTH_RECV_ACCEPT"
            action = "permit"
        """),
    )
    assert len(told.at("ALE_AUTH_RECV_ACCEPT")) == 1


def test_a_change_at_another_layer_authorises_nothing_again(trace: Tracer) -> None:
    told = trace.run(
        """
        listener, client, accepted = pair()
        pause()
        client.sendall(b"more")
        accepted.recv(100)
        """,
        lambda: trace.reload("""
            [[filter]]
            name = "looked at"
            layer = "OUTBOUND_TRANSPORT"
            action = "permit"
        """),
    )
    assert not [line for line in told.indications if line["reauthorize"]]
    assert {line["filter_name"] for line in told.at("OUTBOUND_TRANSPORT")} == {"looked at"}


def test_a_flow_that_is_idle_is_authorised_again_with_its_next_packet(trace: Tracer) -> None:
    told = trace.run(
        """
        listener, client, accepted = pair()
        pause()
        time.sleep(0.2)
        client.close()
        """,
        lambda: trace.reload("""
            [[filter]]
            name = "still welcome"
            layer = "ALE_AUTH_RECV_ACCEPT"
            action = "permit"
        """),
    )
    assert [(line["event"], line["filter_name"]) for line in told.at("ALE_AUTH_RECV_ACCEPT")] == [
        ("FIN", "still welcome")
    ]


# --- other ways to a session ----------------------------------------------------------------------------------------


def test_an_ipv6_socket_that_connects_to_a_mapped_address_is_ipv4_at_every_layer(trace: Tracer) -> None:
    told = trace.run("""
        listener = listen("127.0.0.1")
        client = connect("::ffff:127.0.0.1", listener.getsockname()[1])
    """)
    documented = table(ESTABLISHMENT, 4)
    assert until_established(told.steps("client")) == documented["client"][:-2]
    assert until_established(told.steps("server")) == documented["server"]
    assert {layer(line)[-3:] for line in told.indications} == {"_V4"}
    assert not any(":ffff:" in str(line["remote"]) for line in told.indications)


def test_a_dual_stack_listener_accepts_ipv4_at_the_layers_of_ipv4(trace: Tracer) -> None:
    told = trace.run("""
        listener = listen("::")
        client = connect("127.0.0.1", listener.getsockname()[1])
    """)
    v4, v6 = table(ESTABLISHMENT, 4), table(ESTABLISHMENT, 6)
    assert until_established(told.steps("server")) == v6["server"][:3] + v4["server"][3:]
    assert until_established(told.steps("client")) == v4["client"][:-2]


def test_listening_without_bind_shows_the_bind_all_the_same(trace: Tracer) -> None:
    told = trace.run("""
        listener = socket.socket()
        listener.listen()
        client = connect("127.0.0.1", listener.getsockname()[1])
    """)
    documented = table(ESTABLISHMENT, 4)
    assert until_established(told.steps("server")) == documented["server"]


def test_a_bind_before_connect_is_the_clients_and_comes_once(trace: Tracer) -> None:
    told = trace.run("""
        listener = listen()
        client = connect("127.0.0.1", listener.getsockname()[1], bound=("127.0.0.1", 0))
    """)
    documented = table(ESTABLISHMENT, 4)
    assert until_established(told.steps("client")) == documented["client"][:-2]
    (flow,) = told.flows
    assert [line["flow"] for line in told.indications if line["host"] == "client" and line["event"] == "bind"] == [
        flow
    ] * 2


def test_a_bind_to_a_busy_port_is_never_assigned(trace: Tracer) -> None:
    told = trace.run("""
        listener = listen()
        second = socket.socket()
        report(attempt(second.bind, listener.getsockname()))
        second.close()
    """)
    assert told.report == ["EADDRINUSE"]
    assert without_family(told.steps(None)) == ["bind ALE_BIND_REDIRECT"]


def test_a_bind_whose_socket_closes_has_no_host(trace: Tracer) -> None:
    told = trace.run("""
        alone = socket.socket()
        alone.bind(("127.0.0.1", 0))
        alone.close()
    """)
    assert without_family(told.steps(None)) == [
        "bind ALE_BIND_REDIRECT",
        "bind ALE_RESOURCE_ASSIGNMENT",
        "release ALE_RESOURCE_RELEASE",
    ]
    assert not told.flows


def test_a_connect_that_does_not_block_is_established_as_any_other(trace: Tracer) -> None:
    told = trace.run("""
        import select
        listener = listen()
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        select.select([], [client], [], 5)
        client.send(b"x")
        accepted, _ = listener.accept()
        accepted.recv(1)
    """)
    documented = table(ESTABLISHMENT, 4)
    assert until_established(told.steps("client")) == documented["client"][:-2]
    assert until_established(told.steps("server")) == documented["server"]
    assert [line["host"] for line in told.at("STREAM")] == ["client", "server"]


def test_fifty_clients_at_once_are_fifty_flows_each_as_documented(trace: Tracer) -> None:
    told = trace.run("""
        listener = listen()
        port = listener.getsockname()[1]
        def session():
            with connect("127.0.0.1", port) as client:
                client.sendall(b"x")
                client.recv(1)
        clients = [threading.Thread(target=session) for _ in range(50)]
        for client in clients:
            client.start()
        for client in clients:
            accepted, _ = listener.accept()
            accepted.recv(1)
            accepted.sendall(b"y")
            accepted.close()
        for client in clients:
            client.join()
    """)
    documented = table(ESTABLISHMENT, 4)
    assert len(told.flows) == 50
    assert told.flows == list(range(told.flows[0], told.flows[0] + 50))
    listening = documented["server"][:3]
    for flow in told.flows:
        assert until_established(told.steps("client", flow=flow)) == documented["client"][:-2], flow
        assert until_established(told.steps("server", flow=flow)) == [*listening, *documented["server"][3:]], flow
    assert len(told.at("STREAM")) == 200


def test_the_same_ends_used_again_are_a_new_flow(trace: Tracer) -> None:
    told = trace.run("""
        listener = listen("127.0.0.1", 2100)
        for _ in range(3):
            client = socket.socket()
            client.settimeout(3)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("127.0.0.1", 3100))
            client.connect(("127.0.0.1", 2100))
            accepted, _ = listener.accept()
            accepted.close()
            client.recv(1)
            client.close()
    """)
    documented = table(ESTABLISHMENT, 4)
    assert len(told.flows) == 3
    for flow in told.flows:
        assert until_established(told.steps("client", flow=flow)) == documented["client"][:-2]
        assert until_established(told.steps("server", flow=flow)) == documented["server"]


def test_a_multipath_socket_is_a_tcp_session_too(trace: Tracer) -> None:
    told = trace.run("""
        listener, client = (socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) for _ in range(2))
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.settimeout(3)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
    """)
    documented = table(ESTABLISHMENT, 4)
    assert until_established(told.steps("client")) == documented["client"][:-2]
    assert until_established(told.steps("server")) == documented["server"]
