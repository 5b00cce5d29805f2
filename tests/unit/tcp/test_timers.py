"""Which timer runs on a connection, when it fires, and how often it has fired in vain: what a list of sockets shows."""

from ipaddress import IPv4Address

from layergate.tcp import Config, Connection, End, Flag, Segment, Timer
from layergate.tcp.wire import mss_option

HERE, THERE = End(IPv4Address("10.9.0.1"), 40000), End(IPv4Address("10.9.0.2"), 80)
PLAIN = Config(timestamps=False, window_scale=None)


def connected(config: Config = PLAIN, window: int = 65535) -> Connection:
    """Return a client that the peer has accepted at 0.1 s."""
    client = Connection.connect(config, HERE, THERE, sequence=1000, now=0.0)
    assert client.dispatch(0.0) is not None
    client.process(Segment(80, 40000, 7000, 1001, Flag.SYN | Flag.ACK, window, options=(mss_option(1460),)), 0.1)
    while client.dispatch(0.1) is not None:
        pass
    return client


def kind_of(timer: Timer | None) -> tuple[str, int] | None:
    return None if timer is None else (timer.kind, timer.tries)


def test_a_connect_waits_for_its_answer_and_counts_its_tries() -> None:
    client = Connection.connect(PLAIN, HERE, THERE, sequence=1000, now=0.0)
    client.dispatch(0.0)
    assert client.timer == Timer("retransmit", 1.0, 0)
    client.dispatch(1.0)
    assert client.timer == Timer("retransmit", 2.0, 1)


def test_a_quiet_connection_has_no_timer_but_that_of_keepalive() -> None:
    assert connected().timer is None
    probing = connected(Config(timestamps=False, window_scale=None, keepalive=True, keepalive_idle_s=60.0))
    assert probing.timer == Timer("keepalive", 60.1, 0)
    probing.dispatch(60.1)
    assert kind_of(probing.timer) == ("keepalive", 1)


def test_what_is_on_its_way_is_waited_for_and_a_closed_window_is_asked_for() -> None:
    client = connected()
    client.write(b"x")
    client.dispatch(0.2)
    assert kind_of(client.timer) == ("retransmit", 0)
    assert (client.in_flight, client.sent) == (1, 0.2)
    closed = connected(window=0)
    closed.write(b"x")
    assert closed.dispatch(0.2) is None
    assert kind_of(closed.timer) == ("persist", 0)


def test_a_time_wait_ends_by_its_timer() -> None:
    client = connected()
    client.close(0.2)
    client.dispatch(0.2)
    client.process(Segment(80, 40000, 7001, 1002, Flag.FIN | Flag.ACK, 65535), 0.3)
    assert client.timer == Timer("time_wait", 60.3, 0)
    assert client.heard == 0.3
