"""Endpoints as data: the JSON line of kind `endpoint`, and a line of CSV as tcpvcon writes it.

The keys of an `endpoint` line are always the same and in the same order; what is not known is null. Sizes are bytes,
times have their unit in the name. `process` is the one at work; `holders` are all file descriptors that are the socket.

Source: docs, "Outputs that scripts rely on"; tcpvcon -c (Sysinternals).
"""

from __future__ import annotations

import csv
import io
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from layergate.sockets.endpoint import Endpoint
from layergate.sockets.owners import Facts
from layergate.sockets.services import service_of
from layergate.sockets.subject import Subject

Unit = Callable[[int], str | None]
"""Gives the systemd unit (or path) of a control group's id."""

# TCPView's words for states where they differ from RFC 9293's.
_CSV_STATES: Final = {
    "LISTEN": "LISTENING",
    "SYN_RECEIVED": "SYN_RCVD",
    "FIN_WAIT_1": "FIN_WAIT1",
    "FIN_WAIT_2": "FIN_WAIT2",
}


def no_unit(number: int) -> str | None:
    """Know no unit."""
    del number
    return None


def process_data(process: Facts | None, unit: Unit = no_unit) -> dict[str, object] | None:
    """Return *process* as JSON data."""
    if process is None:
        return None
    unit_name = unit(process.cgroup) if process.cgroup else None
    return {"pid": process.pid, "app": process.app, "user": process.user, "unit": unit_name}


def endpoint_line(one: Endpoint, unit: Unit = no_unit) -> dict[str, object]:
    """Return *one* as a line. Cost: about 30 µs."""
    info, held, timer, process = one.info, one.memory, one.timer, one.process
    listening = one.state == "LISTEN"
    return {
        "kind": "endpoint",
        "protocol": one.protocol,
        "state": one.state,
        "local": one.local,
        "remote": one.remote,
        "process": process_data(process, unit),
        "name": process.name if process else None,
        "holders": [{"pid": holder.pid, "fd": holder.fd} for holder in one.holders],
        "user": one.user,
        "service": service_name(one),
        "namespace": one.namespace,
        "family": one.family,
        "interface": interface_name(one),
        "v6_only": one.is_v6_only if one.family == 6 else None,
        "shut": [word for word, is_shut in zip(("receive", "send"), one.shut, strict=True) if is_shut],
        "inode": one.inode or None,
        "cookie": one.cookie or None,
        "filter": one.filter,
        "filter_name": one.filter_name,
        "age_s": one.age_s,
        "age_is_exact": one.age_is_exact if one.age_s is not None else None,
        "idle_s": one.idle_s,
        "receive_queue": one.receive_queue,
        "send_queue": one.send_queue,
        "accept_queue": one.receive_queue if listening else None,
        "backlog": one.send_queue if listening else None,
        "bytes_sent": info.bytes_sent if info and not listening else None,
        "bytes_received": info.bytes_received if info and not listening else None,
        "packets_sent": info.segments_out if info and not listening else None,
        "packets_received": info.segments_in if info and not listening else None,
        "retransmitted": info.retransmitted if info and not listening else None,
        "rtt_ms": info.rtt_us / 1000 if info and info.rtt_us else None,
        "rtt_variance_ms": info.rtt_variance_us / 1000 if info and info.rtt_us else None,
        "rtt_min_ms": info.rtt_min_us / 1000 if info and info.rtt_us and info.rtt_min_us != 0xFFFFFFFF else None,
        "congestion": one.congestion,
        "congestion_window": info.congestion_window if info and not listening else None,
        "send_window": info.send_window if info and not listening else None,
        "timer": {"kind": timer.kind, "expires_ms": timer.expires_ms, "tries": timer.tries} if timer else None,
        "memory": held._asdict() if held else None,
        "tcp": info._asdict() if info else None,
    }


def service_name(one: Subject) -> str | None:
    """Return the name of the service that *one* serves or uses: the local port's before the remote one's."""
    return service_of(one.local_port, one.protocol) or service_of(one.remote_port, one.protocol)


def interface_name(one: Endpoint) -> str | None:
    """Return the interface that *one* is bound to, None for any: by name in our own namespace, else by number."""
    if not one.interface:
        return None
    if one.namespace is None:
        with suppress(OSError):
            return socket.if_indextoname(one.interface)
    return str(one.interface)


def csv_line(one: Endpoint) -> str:
    """Return *one* as tcpvcon -c writes it: protocol, process, pid, state, local, remote.

    Worked example: `TCP,nginx,812,LISTENING,0.0.0.0:80,0.0.0.0:0`; `UDP,chronyd,640,*,127.0.0.1:323,*:*`. What no
    process has is the pid 0's, as there: TIME_WAIT and what is left behind.
    """
    process = one.process
    name = process.name if process else "[System Process]"
    if process and process.app:
        name = os.path.basename(process.app)  # noqa: PTH119 (text in, text out)
    if one.protocol == "udp":
        state, remote = "*", one.remote or "*:*"
    else:
        nowhere = "0.0.0.0:0" if one.family == 4 else "[::]:0"
        state, remote = _CSV_STATES.get(one.state, one.state), one.remote or nowhere
    text = io.StringIO()
    fields = (one.protocol.upper(), name, process.pid if process else 0, state, one.local, remote)
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()
