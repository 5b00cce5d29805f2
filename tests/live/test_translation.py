"""Sessions that NAT translates under way: each end is told as its socket knows it, in pairs of layers."""

import json
import subprocess

import pytest

from tests.live.lab import WITH_ENDS, Told, Tracer, inside, ip, neighbour, nft, says

pytestmark = pytest.mark.live


def packets_of(told: Told, host: str) -> list[str]:
    """Return the steps of *host* from its first packet on, without family, up to where it is established."""
    steps = [step.replace("_V4", "").replace("_V6", "") for step in told.steps(host)]
    packets = [place for place, step in enumerate(steps) if "BOUND_" in step]
    return steps[packets[0] :] if packets else []


HANDSHAKE_OF_CLIENT = [
    "SYN OUTBOUND_TRANSPORT",
    "SYN OUTBOUND_IPPACKET",
    "SYN-ACK INBOUND_IPPACKET",
    "SYN-ACK INBOUND_TRANSPORT",
    "established ALE_FLOW_ESTABLISHED",
    "ACK OUTBOUND_TRANSPORT",
    "ACK OUTBOUND_IPPACKET",
]
HANDSHAKE_OF_SERVER = [
    "SYN INBOUND_IPPACKET",
    "SYN INBOUND_TRANSPORT",
    "SYN ALE_AUTH_RECV_ACCEPT",
    "SYN-ACK OUTBOUND_TRANSPORT",
    "SYN-ACK OUTBOUND_IPPACKET",
    "ACK INBOUND_IPPACKET",
    "ACK INBOUND_TRANSPORT",
    "established ALE_FLOW_ESTABLISHED",
]


def test_a_client_that_is_masqueraded_passes_its_layers_in_pairs(cleared: Tracer, netns: str) -> None:
    with neighbour(netns) as there:
        ip("-n", netns, "addr", "add", "10.78.0.77/24", "dev", "lg-here")
        nft(
            netns,
            """
            table ip lg {
                chain out { type nat hook postrouting priority 100; oifname "lg-here" snat to 10.78.0.77; }
            }
            """,
        )
        cleared.run("time.sleep(0.7)")
        server = subprocess.Popen(
            inside(there, *says("one, who = listen('10.78.0.2', 80).accept(); one.recv(9); report(who[0])")),
            stdout=subprocess.PIPE, text=True, env=WITH_ENDS,
        )  # fmt: skip
        told = cleared.run("""
            time.sleep(0.3)
            client = connect("10.78.0.2", 80)
            client.sendall(b"x")
            time.sleep(0.1)
            reset(client)
        """)
        assert json.loads(server.communicate(timeout=10)[0]) == ["10.78.0.77"]
    assert packets_of(told, "client")[:7] == HANDSHAKE_OF_CLIENT
    assert len(told.flows) == 1
    assert not told.steps("server")


def test_a_client_whose_destination_is_translated_passes_its_layers_in_pairs(cleared: Tracer, netns: str) -> None:
    nft(
        netns,
        """
        table ip lg {
            chain out { type nat hook output priority -100; ip daddr 10.99.0.1 tcp dport 80 dnat to 127.0.0.1:2500; }
        }
        """,
    )
    ip("-n", netns, "route", "add", "10.99.0.0/24", "dev", "lo")
    try:
        told = cleared.run("""
            listener = listen("127.0.0.1", 2500)
            client = connect("10.99.0.1", 80, seconds=2)
            accepted, _ = listener.accept()
            client.sendall(b"x")
            accepted.recv(1)
            reset(accepted)
            reset(client)
        """)
    finally:
        ip("-n", netns, "route", "del", "10.99.0.0/24", "dev", "lo")
    assert packets_of(told, "client")[:7] == HANDSHAKE_OF_CLIENT
    assert packets_of(told, "server")[:8] == HANDSHAKE_OF_SERVER
    assert not [line for line in told.indications if line["reauthorize"]]
    # One flow as the client sees it, and at most one more as the server does.
    assert len({line["flow"] for line in told.indications if line["host"] == "client"}) == 1
