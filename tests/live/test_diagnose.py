"""`layergate diagnose`: every finding provoked for real, with the right owner and numbers; none on a healthy host."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layergate.sockets.diagnosis.finding import Severity
from tests.live.lab import LAYERGATE, Line, inside, namespace, nft, start_in
from tests.live.links import HERE, THERE, Link, link

pytestmark = pytest.mark.live


def found(netns: str, *words: str, seconds: float = 0.3) -> dict[str, Line]:
    """Return the findings by id."""
    done = subprocess.run(
        inside(netns, LAYERGATE, "diagnose", "--json", "--seconds", str(seconds), "--patience", "0.5", *words),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    *findings, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert summary["findings"] == len(findings)
    assert done.returncode == (1 if any(one["severity"] != Severity.INFO for one in findings) else 0)
    return {one["id"]: one for one in findings}


@contextmanager
def going_on(netns: str, script: str) -> Iterator[int]:
    """Run *script* until the block ends; yields its pid. It says a line when it stands."""
    with start_in(netns, None, script) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            said = process.stdout.readline()
            assert said, process.stderr.read()
            yield process.pid
        finally:
            process.kill()


@pytest.fixture
def netns() -> Iterator[str]:
    with namespace("diagnose") as name:
        yield name


def setting(netns: str, **values: object) -> None:
    for name, value in values.items():
        subprocess.run(inside(netns, "sysctl", "-q", f"net.{name.replace('__', '.')}={value}"), check=True)


def test_a_healthy_host_has_no_findings(netns: str) -> None:
    busy = """
    listener = socket.create_server(("127.0.0.1", 80))
    ends = []
    for _ in range(50):
        client = socket.create_connection(("127.0.0.1", 80)); server, _ = listener.accept()
        client.send(b"x" * 1000); server.recv(1000); server.send(b"y"); client.recv(1)
        ends += [client, server]
    for end in ends[:20]: end.close()
    print(1, flush=True)
    until_end()
    """
    with going_on(netns, busy):
        assert found(netns) == {}


def test_a_server_that_does_not_close_leaks_close_wait(netns: str) -> None:
    script = """
    listener = socket.create_server(("127.0.0.1", 80))
    kept = []
    for _ in range(12):
        client = socket.create_connection(("127.0.0.1", 80)); kept.append(listener.accept()[0]); client.close()
    time.sleep(0.6); print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns)["close-wait-leak"]
    assert (one["severity"], one["process"]["pid"], one["figures"]["count"]) == ("error", pid, 12)  # type: ignore[index]
    assert one["figures"]["seconds_min"] >= 0.5  # type: ignore[index]
    assert f"pid:{pid}" in str(one["remedy"])


def test_a_peer_that_does_not_close_leaves_fin_wait_2(netns: str) -> None:
    script = """
    listener = socket.create_server(("127.0.0.1", 80))
    kept = []
    for _ in range(6):
        client = socket.create_connection(("127.0.0.1", 80)); kept += [client, listener.accept()[0]]
        client.shutdown(socket.SHUT_WR)
    time.sleep(0.6); print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns)["fin-wait-2-stuck"]
    assert (one["process"]["pid"], one["figures"]["count"]) == (pid, 6)  # type: ignore[index]


def test_connections_that_can_t_end_or_begin_because_of_drops(netns: str) -> None:
    script = """
    import subprocess
    listener = socket.create_server(("127.0.0.1", 80))
    ends = []
    for _ in range(3):
        client = socket.create_connection(("127.0.0.1", 80)); ends += [client, listener.accept()[0]]
    drops = "tcp dport { 80, 81 } drop\\ntcp sport 80 drop"
    rules = "table inet t {\\nchain c {\\ntype filter hook input priority 0\\n" + drops + "\\n}\\n}\\n"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    for end in ends[::2]: end.close()
    asking = socket.socket(); asking.setblocking(False)
    try: asking.connect(("127.0.0.1", 81))
    except BlockingIOError: pass
    time.sleep(2.2); print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        all_found = found(netns)
    stuck, asking = all_found["last-ack-stuck"], all_found["syn-sent-stuck"]
    assert (stuck["subject"], stuck["figures"]["count"]) == ("127.0.0.1", 3)  # type: ignore[index]
    assert (asking["subject"], asking["process"]["pid"]) == ("127.0.0.1:81", pid)  # type: ignore[index]
    assert asking["figures"]["tries"] >= 1  # type: ignore[index]


@pytest.mark.parametrize("abort", [0, 1])
def test_a_full_accept_queue_is_told_with_what_its_settings_do(netns: str, abort: int) -> None:
    setting(netns, core__somaxconn=3, ipv4__tcp_abort_on_overflow=abort)
    script = """
    listener = socket.create_server(("127.0.0.1", 80), backlog=100)
    kept = []
    for _ in range(9):
        one = socket.socket(); one.setblocking(False); kept.append(one)
        try: one.connect(("127.0.0.1", 80))
        except BlockingIOError: pass
    time.sleep(0.2); print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns, seconds=1.5)["accept-queue-full"]
    figures = one["figures"]
    assert (one["subject"], one["process"]["pid"]) == ("127.0.0.1:80", pid)  # type: ignore[index]
    assert (figures["waiting"], figures["backlog"], figures["somaxconn"]) == (4, 3, 3)  # type: ignore[index]
    assert figures["dropped_in_all"] > 0  # type: ignore[index]
    assert ("reset at once" if abort else "handshakes are dropped") in str(one["cause"])
    assert "raise net.core.somaxconn (3)" in str(one["remedy"])


def test_an_accept_queue_that_overflowed_meanwhile_is_told_though_it_is_empty_now(netns: str) -> None:
    script = """
    listener = socket.create_server(("127.0.0.1", 80), backlog=1)
    print(1, flush=True)
    time.sleep(0.8)
    kept = []
    for _ in range(8):
        one = socket.socket(); one.setblocking(False); kept.append(one)
        try: one.connect(("127.0.0.1", 80))
        except BlockingIOError: pass
    time.sleep(0.1)
    kept += [listener.accept(), listener.accept()]
    until_end()
    """
    with going_on(netns, script):
        one = found(netns, seconds=1.4)
    assert {"accept-queue-overflow", "accept-queue-full"} & one.keys()
    (told,) = [one[name] for name in ("accept-queue-overflow", "accept-queue-full") if name in one]
    assert told["figures"]["dropped"] > 0  # type: ignore[index]


def test_a_port_range_of_100_is_used_up_and_short_connections_are_told(netns: str) -> None:
    setting(netns, ipv4__ip_local_port_range="40000 40099", ipv4__tcp_tw_reuse=0)
    script = """
    listener = socket.create_server(("127.0.0.1", 80))
    for _ in range(95):
        client = socket.create_connection(("127.0.0.1", 80)); server, _ = listener.accept()
        client.close(); server.recv(1); server.close()
    live = socket.create_connection(("127.0.0.1", 80))
    print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns)["ports-exhausted"]
    figures = one["figures"]
    assert (figures["used"], figures["range"], figures["time_wait"]) == (96, 100, 95)  # type: ignore[index]
    assert (one["subject"], one["process"]["pid"]) == ("127.0.0.1:80", pid)  # type: ignore[index]


def test_many_short_connections_to_one_place(netns: str) -> None:
    script = """
    listener = socket.create_server(("127.0.0.1", 80))
    for _ in range(400):
        client = socket.create_connection(("127.0.0.1", 80)); server, _ = listener.accept()
        client.close(); server.recv(1); server.close()
    live = socket.create_connection(("127.0.0.1", 80))
    print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns)["short-connections"]
    assert (one["subject"], one["figures"]["count"], one["process"]["pid"]) == ("127.0.0.1:80", 400, pid)  # type: ignore[index]


# SYNs from a raw socket, from many senders or from one, in the namespace behind the link.
FLOOD = """
import struct
def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
target = socket.inet_aton("HERE")
for number in range(COUNT):
    source = socket.inet_aton(f"10.79.0.{100 + number % SOURCES}")
    head = struct.pack(">HHIIBBHHH", 2000 + number, 80, number, 0, 0x50, 2, 1000, 0, 0)
    sum_ = checksum(source + target + struct.pack(">BBH", 0, 6, len(head)) + head)
    segment = head[:16] + struct.pack(">H", sum_) + head[18:]
    packet = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, source, target) + segment
    raw.sendto(packet, ("HERE", 0))
print(1)
"""


@pytest.mark.parametrize("count, sources", [(200, 1), (200, 100)])
def test_a_syn_flood_is_told_with_whom_it_comes_from(count: int, sources: int) -> None:
    with link("flood", 0.0) as made:
        serving = "listener = socket.create_server(('', 80), backlog=128); print(1, flush=True); until_end()"
        with going_on(made.here, serving) as pid:
            flood = FLOOD.replace("HERE", HERE).replace("COUNT", str(count)).replace("SOURCES", str(sources))
            # Nobody answers: the senders are not there, and where one is, its RST is dropped.
            nft(
                made.there,
                "table inet t {\nchain c {\ntype filter hook output priority 0\ntcp flags & rst == rst drop\n}\n}\n",
            )
            with going_on(made.there, "import sys\nfrom ends import *\n" + flood):
                time.sleep(0.3)
            one = found(made.here, seconds=1.5)
    told = one["syn-flood"]
    figures = told["figures"]
    assert told["process"]["pid"] == pid  # type: ignore[index]
    assert 64 <= figures["half_open"] <= count  # type: ignore[index]
    assert figures["sources"] == min(sources, figures["half_open"]) or figures["sources"] > 50  # type: ignore[index]
    assert ("forged" if sources > 1 else "10.79.0.100") in f"{told['remedy']} {told['evidence']}"


def test_syn_cookies_are_told_while_they_are_sent() -> None:
    with link("cookies", 0.0) as made:
        serving = "listener = socket.create_server(('', 80), backlog=8); print(1, flush=True); until_end()"
        with going_on(made.here, serving):
            slow = FLOOD.replace("HERE", HERE).replace("COUNT", "400").replace("SOURCES", "50")
            slow = "print(1, flush=True); time.sleep(0.7)\n" + slow + "until_end()"
            with going_on(made.there, slow):
                one = found(made.here, seconds=2.0)
    assert one["syn-queue-full"]["figures"]["cookies"] + one["syn-queue-full"]["figures"]["dropped"] > 0  # type: ignore[index]


def test_silent_connections_that_nothing_probes(netns: str) -> None:
    script = """
    ends = [pair() for _ in range(3)]
    probed = pair()
    probed[1].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    time.sleep(1.2); print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns, "--idle", "1")["idle-unprobed"]
        assert "idle-unprobed" not in found(netns)
    assert (one["process"]["pid"], one["figures"]["count"]) == (pid, 7)  # type: ignore[index]


@pytest.fixture
def linked() -> Iterator[Link]:
    with link("ill", 2.0) as made:
        yield made


SERVE = """
listener = socket.create_server(('', 80)); print(1, flush=True)
end, _ = listener.accept()
while data := end.recv(1 << 16): end.send(b"y")
until_end()
"""


def test_a_peer_behind_a_link_that_is_cut_is_dead(linked: Link) -> None:
    client = f"""
    end = socket.create_connection(("{THERE}", 80)); end.send(b"x"); end.recv(1)
    print(1, flush=True); time.sleep(0.5)
    end.send(b"z" * 100); until_end()
    """
    with going_on(linked.there, SERVE), going_on(linked.here, client) as pid:
        linked.tell("lose 100")
        time.sleep(5)
        one = found(linked.here)["dead-peer"]
    assert (one["subject"], one["process"]["pid"]) == (f"{THERE}:80", pid)  # type: ignore[index]
    assert one["figures"]["unacknowledged_bytes"] == 100  # type: ignore[index]
    assert one["figures"]["tries"] >= 3  # type: ignore[index]


def test_losses_and_reordering_on_the_way_are_told(linked: Link) -> None:
    client = f"""
    end = socket.create_connection(("{THERE}", 80))
    print(1, flush=True)
    end.settimeout(8)
    began = time.monotonic()
    while time.monotonic() - began < 6:
        try: end.send(b"x" * 60000)
        except TimeoutError: break
    until_end()
    """
    with going_on(linked.there, SERVE), going_on(linked.here, client) as pid:
        linked.tell("delay 1")
        linked.tell("reorder 10")
        time.sleep(2)
        linked.tell("reorder 0")
        linked.tell("lose 20")
        time.sleep(3)
        one = found(linked.here)
    lossy, mixed = one["retransmission"], one["reordering"]
    assert (lossy["subject"], lossy["process"]["pid"], lossy["figures"]["share"] > 0.05) == (THERE, pid, True)  # type: ignore[index]
    assert mixed["figures"]["seen"] >= 10 or mixed["figures"]["out_of_order_in"] >= 50  # type: ignore[index]


def test_round_trips_that_take_many_times_what_they_took(linked: Link) -> None:
    client = f"""
    end = socket.create_connection(("{THERE}", 80))
    print(1, flush=True)
    while True:
        end.send(b"x"); end.recv(1)
    """
    with going_on(linked.there, SERVE), going_on(linked.here, client) as pid:
        time.sleep(0.3)
        linked.tell("delay 100")
        time.sleep(3)
        one = found(linked.here)["rtt-jumped"]
    assert (one["subject"], one["process"]["pid"]) == (THERE, pid)  # type: ignore[index]
    assert one["figures"]["rtt_ms"] > 100 > 10 * one["figures"]["rtt_min_ms"] > 0  # type: ignore[index]


def test_an_application_that_does_not_read_closes_its_window(netns: str) -> None:
    script = """
    listener = socket.create_server(("127.0.0.1", 80))
    client = socket.create_connection(("127.0.0.1", 80)); server, _ = listener.accept()
    client.setblocking(False)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try: client.send(b"x" * 65536)
        except BlockingIOError: time.sleep(0.05)
    print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns, seconds=0.5)
    assert one["zero-window"]["figures"]["waiting_bytes"] > 0  # type: ignore[index]
    assert one["receive-buffer-full"]["process"]["pid"] == one["zero-window"]["process"]["pid"] == pid  # type: ignore[index]


def test_datagrams_that_find_no_room(netns: str) -> None:
    script = """
    sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sink.bind(("127.0.0.1", 53))
    source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    print(1, flush=True)
    for _ in range(200):
        for _ in range(20): source.sendto(b"x" * 1000, ("127.0.0.1", 53))
        time.sleep(0.01)
    until_end()
    """
    with going_on(netns, script) as pid:
        one = found(netns, seconds=0.8)["udp-drops"]
    assert (one["subject"], one["process"]["pid"]) == ("127.0.0.1:53", pid)  # type: ignore[index]


def test_limits_of_the_host_that_come_near(netns: str) -> None:
    setting(netns, ipv4__tcp_max_tw_buckets=50)
    script = """
    listener = socket.create_server(("127.0.0.1", 80))
    for _ in range(60):
        client = socket.create_connection(("127.0.0.1", 80)); server, _ = listener.accept()
        client.close(); server.recv(1); server.close()
    print(1, flush=True); until_end()
    """
    with going_on(netns, script):
        one = found(netns)["time-wait-limit"]
    assert one["figures"]["limit"] == 50  # type: ignore[index]


def test_a_listener_that_a_policy_lets_nobody_reach(netns: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("""
    [[filter]]
    name = "web"
    layer = "ALE_AUTH_RECV_ACCEPT"
    action = "permit"
    when = { local_port = 80 }
    [[filter]]
    name = "the office"
    layer = "ALE_AUTH_RECV_ACCEPT"
    action = "permit"
    when = { local_port = 81, remote_address = "10.0.0.0/8" }
    [[filter]]
    name = "nothing else comes in"
    layer = "ALE_AUTH_RECV_ACCEPT"
    weight = 0
    action = "block"
    """)
    script = """
    listeners = [socket.create_server(("", port)) for port in (80, 81, 82)]
    print(1, flush=True); until_end()
    """
    with going_on(netns, script) as pid:
        findings = found(netns, "--policy", str(policy))
        assert found(netns) == {}
    one = findings["listener-blocked"]
    assert (one["subject"], one["process"]["pid"]) == ("0.0.0.0:82", pid)  # type: ignore[index]
    assert one["figures"]["filter_name"] == "nothing else comes in"  # type: ignore[index]


def test_people_are_told_in_words(netns: str) -> None:
    script = """
    listener = socket.create_server(("", 80), backlog=0)
    kept = [socket.create_connection(("127.0.0.1", 80))]
    print(1, flush=True); until_end()
    """
    with going_on(netns, script):
        done = subprocess.run(
            inside(netns, LAYERGATE, "diagnose", "--seconds", "0"), capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "error: accept-queue-full  0.0.0.0:80" in done.stdout
    assert "    why: " in done.stdout
    assert "    do: " in done.stdout


# --- limits of the whole machine ------------------------------------------------------------------------------------


def on_the_machine() -> dict[str, Line]:
    """Return the findings of our own namespace, which alone sees the limits of the whole machine."""
    done = subprocess.run(
        [LAYERGATE, "diagnose", "--json", "--seconds", "0.3"], capture_output=True, text=True, check=False, timeout=60
    )
    return {one["id"]: one for one in map(json.loads, done.stdout.splitlines()) if "id" in one}


def machine_s(name: str) -> list[int]:
    return [int(word) for word in Path(f"/proc/sys/net/ipv4/{name}").read_text(encoding="ascii").split()]


def orphans() -> int:
    """Return how many there are, of the whole machine."""
    words = Path("/proc/net/sockstat").read_text(encoding="ascii").split("TCP:")[1].split()
    return int(words[words.index("orphan") + 1])


def test_tcp_s_memory_runs_short(netns: str) -> None:
    """Data that nobody reads: as much as it takes, some gigabytes at most, for some seconds."""
    _, pressure, limit = machine_s("tcp_mem")
    wanted = (pressure + (limit - pressure) // 8) * os.sysconf("SC_PAGE_SIZE")
    available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    if not available or int(available[1]) * 1024 < 2 * wanted:
        pytest.skip("not enough memory to fill TCP's share of it")
    script = f"""
    def held():
        words = open("/proc/net/sockstat").read().split("TCP:")[1].split()
        return int(words[words.index("mem") + 1]) * {os.sysconf("SC_PAGE_SIZE")}
    listener = socket.create_server(("127.0.0.1", 80))
    SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 512 << 20)
    kept, data = [], bytes(1 << 20)
    while held() < {wanted} and len(kept) < 200:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
        client.connect(("127.0.0.1", 80)); kept += [client, listener.accept()[0]]
        client.setblocking(False)
        try:
            while held() < {wanted}: client.send(data)
        except BlockingIOError: pass
    print(1, flush=True); until_end()
    """
    with going_on(netns, script):
        one = on_the_machine()["memory-pressure"]
    assert one["figures"]["pages"] >= pressure  # type: ignore[index]
    assert (one["figures"]["pressure"], one["figures"]["limit"]) == (pressure, limit)  # type: ignore[index]


def test_connections_that_nobody_has_any_more_come_near_their_limit(netns: str) -> None:
    """Closed while their peers are cut off: what a process may open, by as many processes as it takes."""
    (limit,) = machine_s("tcp_max_orphans")
    each = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200
    workers = -(-int(limit * 0.85) // each)
    if limit > 300_000:
        pytest.skip(f"{limit:,} orphans are too many to make")
    setting(netns, core__somaxconn=30_000, ipv4__ip_local_port_range="2000 65000")
    script = f"""
    import ctypes, subprocess
    connected, go = os.pipe(), os.pipe()
    for number in range({workers}):
        if os.fork(): continue
        ctypes.CDLL(None).prctl(1, 9)  # dies with its parent
        address = f"127.0.0.{{number + 1}}"
        listener = socket.create_server((address, 80), backlog=30_000)
        kept = [socket.create_connection((address, 80)) for _ in range({int(limit * 0.85) // workers})]
        os.write(connected[1], b"c"); os.read(go[0], 1)
        for one in kept: one.close()
        os.write(connected[1], b"c"); until_end()
    def until(count):
        while count: count -= len(os.read(connected[0], count))
    until({workers})
    rules = "table ip lg {{ chain c {{ type filter hook output priority 0; drop; }}; }}"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    os.write(go[1], bytes({workers})); until({workers})
    print(1, flush=True); until_end()
    """
    with going_on(netns, script):
        one = on_the_machine()["orphans"]
        nft(netns, "flush ruleset")  # or they would stay for minutes, and their namespace with them
    end = time.monotonic() + 20
    while orphans() > limit // 10 and time.monotonic() < end:
        time.sleep(0.2)
    assert orphans() <= limit // 10
    assert one["figures"]["count"] >= 0.8 * limit  # type: ignore[index]
    assert one["figures"]["limit"] == limit  # type: ignore[index]
