"""What is not ours stays untouched; what others do to our packets is told."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from layergate.kernel.hooks import HOOKS
from tests.live.lab import WITH_ENDS, Tracer, inside, ip, namespace, nft, run_in, says

pytestmark = pytest.mark.live

EVERYTHING = "\n".join(
    f'[[filter]]\nname = "no {hook.layer}"\nlayer = "{hook.layer}"\naction = "block"\n'
    for hook in HOOKS
    if hook.blocked
)
SESSION = """
    listener, client, accepted = pair({address!r})
    client.sendall(b"x")
    accepted.recv(1)
    client.close()
    accepted.recv(1)
    accepted.close()
    closed = listen({address!r})
    port = closed.getsockname()[1]
    closed.close()
    report("done", attempt(connect, {address!r}, port))
"""


# --- other processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_policy_that_blocks_everything_touches_no_process_outside(trace: Tracer, address: str) -> None:
    trace.reload(EVERYTHING)
    told = trace.run(SESSION.format(address=address), traced=False)
    assert told.report == ["done", "ECONNREFUSED"]
    assert not told.lines


def test_nothing_is_told_of_a_process_outside(trace: Tracer) -> None:
    told = trace.run(SESSION.format(address="127.0.0.1"), traced=False)
    assert told.report == ["done", "ECONNREFUSED"]
    assert not told.lines


def test_of_a_session_with_a_process_outside_our_end_alone_is_told(trace: Tracer) -> None:
    trace.start("listener = listen('127.0.0.1', 2400); accepted, _ = listener.accept(); pause()", traced=False)
    client = trace.run("""
        time.sleep(0.2)
        client = connect("127.0.0.1", 2400)
        client.sendall(b"x")
    """)
    assert client.steps("client")
    assert not client.steps("server")


def test_a_blocked_client_outside_reaches_our_server_as_ever(trace: Tracer) -> None:
    trace.reload("""
        [[filter]]
        name = "no"
        layer = ["ALE_AUTH_CONNECT", "OUTBOUND_TRANSPORT"]
        action = "block"
        when = { remote_port = 2401 }
    """)
    outside = trace.start("time.sleep(0.3); report(attempt(connect, '127.0.0.1', 2401))", traced=False)
    server = trace.start("listener = listen('127.0.0.1', 2401); report(attempt(listener.accept))")
    assert json.loads(outside.communicate(timeout=10)[0]) == ["done"]
    assert json.loads(server.communicate(timeout=10)[0]) == ["done"]


# --- routed and translated ------------------------------------------------------------------------------------------


@contextmanager
def routed() -> Iterator[tuple[str, str, str]]:
    """Three namespaces: a client (10.1.0.2, fd01::2), a router, a server (10.2.0.2, fd02::2).

    The router sends on 10.1.0.1:8080 to the server's port 80, and hides the client behind its own address.
    """
    with ExitStack() as stack:
        client, router, server = (stack.enter_context(namespace(name)) for name in ("client", "router", "server"))
        for number, end in ((1, client), (2, server)):
            ip("-n", router, "link", "add", f"lg-{number}", "type", "veth", "peer", "name", "lg-up", "netns", end)
            for where, name, last in ((router, f"lg-{number}", 1), (end, "lg-up", 2)):
                ip("-n", where, "addr", "add", f"10.{number}.0.{last}/24", "dev", name)
                ip("-n", where, "addr", "add", f"fd0{number}::{last}/64", "dev", name, "nodad")
                ip("-n", where, "link", "set", name, "up")
            ip("-n", end, "route", "add", "default", "via", f"10.{number}.0.1")
            ip("-n", end, "-6", "route", "add", "default", "via", f"fd0{number}::1")
        forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
        subprocess.run(inside(router, "sh", "-c", forward), check=True)
        nft(
            router,
            """
            table inet lg {
                chain in {
                    type nat hook prerouting priority dstnat;
                    ip daddr 10.1.0.1 tcp dport 8080 dnat to 10.2.0.2:80;
                }
                chain out { type nat hook postrouting priority srcnat; oifname "lg-2" masquerade; }
            }
            """,
        )
        yield client, router, server


def test_what_is_routed_and_translated_through_the_host_passes_untouched(tmp_path: Path) -> None:
    with routed() as (client, router, server), Tracer(router, tmp_path) as trace:
        serving = subprocess.Popen(
            inside(server, *says("""
                def serve(listener):
                    while True:
                        accepted, _ = listener.accept()
                        accepted.sendall(accepted.recv(100))
                        accepted.close()
                listeners = [listen(address, 80, only=True) for address in ("10.2.0.2", "fd02::2")]
                for listener in listeners:
                    listener.settimeout(None)
                    threading.Thread(target=serve, args=(listener,), daemon=True).start()
                pause()
                until_end()
            """)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=WITH_ENDS,
        )  # fmt: skip
        try:
            assert serving.stdout is not None
            serving.stdout.readline()
            trace.reload(EVERYTHING)
            trace.told()
            talk = """
                outcomes = []
                ends = ("10.2.0.2", 80), ("fd02::2", 80), ("10.1.0.1", 8080), ("10.2.0.2", 81), ("fd02::2", 81)
                for address, port in ends:
                    try:
                        with connect(address, port, seconds=1) as client:
                            client.sendall(b"hello")
                            outcomes.append(client.recv(100).decode())
                    except OSError as error:
                        outcomes.append(errno.errorcode.get(error.errno, str(error)))
                report(*outcomes)
            """
            before = run_in(client, None, talk)
            assert before == ["hello", "hello", "hello", "ECONNREFUSED", "ECONNREFUSED"]
            assert not trace.told()
            # A process of the router itself, outside the trace, does as it likes.
            assert run_in(
                router, None, 'report(attempt(connect, "10.2.0.2", 80), attempt(connect, "fd02::2", 80))'
            ) == [
                "done",
                "done",
            ]
            assert trace.run('report(attempt(connect, "10.2.0.2", 80, seconds=0.3))').report == ["EPERM"]
        finally:
            serving.kill()
            serving.communicate()


# --- drops by others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chain",
    [
        "table ip lg { chain c { type filter hook input priority 0; tcp dport 2600 drop; }; }",
        "table ip lg { chain c { type filter hook output priority 0; tcp dport 2600 drop; }; }",
        "table ip lg { chain c { type filter hook prerouting priority -300; tcp dport 2600 drop; }; }",
        "table ip lg { chain c { type filter hook postrouting priority 0; tcp dport 2600 drop; }; }",
        "table netdev lg { chain c { type filter hook ingress device lo priority 0; tcp dport 2600 drop; }; }",
        "table inet lg { chain c { type filter hook input priority 0; tcp dport 2600 drop; }; }",
    ],
    ids=["input", "output", "prerouting", "postrouting", "netdev ingress", "inet input"],
)
def test_a_packet_that_nftables_drops_is_told(cleared: Tracer, netns: str, chain: str) -> None:
    nft(netns, chain)
    told = cleared.run("""
        listener = listen("127.0.0.1", 2600)
        report(attempt(connect, "127.0.0.1", 2600, seconds=0.3))
    """)
    assert told.report in (["timeout"], ["EPERM"])
    assert not told.at("ALE_FLOW_ESTABLISHED")
    (first, *_) = told.drops
    assert (first["event"], first["reason"], first["by"]) == ("SYN", "NETFILTER_DROP", "netfilter (nftables, iptables)")
    assert first["flow"] == told.flows[0]
    assert {first["local"], first["remote"]} >= {"127.0.0.1:2600"}
    hosts = {"output": "client", "postrouting": "client"}
    assert first["host"] == next((host for hook, host in hosts.items() if f"hook {hook}" in chain), "server")


def test_a_drop_in_mid_session_is_told_of_its_flow(cleared: Tracer, netns: str) -> None:
    told = cleared.run(
        """
        listener, client, accepted = pair()
        pause()
        client.sendall(b"x")
        accepted.settimeout(0.3)
        report(attempt(accepted.recv, 1))
        os._exit(0)
        """,
        lambda: nft(
            netns, "table ip lg { chain c { type filter hook input priority 0; tcp flags & psh != 0 drop; }; }"
        ),
    )
    assert told.report == ["timeout"]
    assert {(drop["host"], drop["event"], drop["reason"]) for drop in told.drops} == {
        ("server", "segment", "NETFILTER_DROP")
    }
    assert {drop["flow"] for drop in told.drops} == set(told.flows)


def test_a_drop_in_a_session_of_others_is_not_told(cleared: Tracer, netns: str) -> None:
    nft(netns, "table ip lg { chain c { type filter hook input priority 0; tcp dport 2601 drop; }; }")
    told = cleared.run("report(attempt(connect, '127.0.0.1', 2601, seconds=0.3))", traced=False)
    assert told.report == ["timeout"]
    assert not told.lines
