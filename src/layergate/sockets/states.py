"""What the kernel's numbers of states and timers are called: RFC 9293's words for TCP, plain ones for UDP.

Two numbers mean SYN_RECEIVED: a request that waits in the SYN queue and a socket that has been made of it. BOUND is
Linux's: a TCP socket that has a port and neither listens nor connects.

Source: include/net/tcp_states.h, linux/inet_diag.h (idiag_timer).
"""

from __future__ import annotations

from typing import Final

from layergate.model import InputError

ESTABLISHED, SYN_SENT, SYN_RECEIVED, FIN_WAIT_1, FIN_WAIT_2, TIME_WAIT, CLOSED = range(1, 8)
CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING, NEW_SYN_RECEIVED, BOUND = range(8, 14)

TCP_STATES: Final = (
    "UNKNOWN", "ESTABLISHED", "SYN_SENT", "SYN_RECEIVED", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT", "CLOSED",
    "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECEIVED", "BOUND",
)  # fmt: skip
UDP_STATES: Final = tuple({1: "CONNECTED", 7: "UNCONNECTED"}.get(number, "UNKNOWN") for number in range(14))
TIMERS: Final = (None, "retransmit", "keepalive", "time_wait", "persist")
"""By idiag_timer. `persist` probes a peer whose window is closed."""

NAMES: Final = tuple(dict.fromkeys((*TCP_STATES[1:], "CONNECTED", "UNCONNECTED")))

# What people write for a state: ss's words, netstat's, and groups of states.
_OTHER_WORDS: Final = {
    "ESTAB": ("ESTABLISHED", "CONNECTED"),
    "ESTABLISHED": ("ESTABLISHED", "CONNECTED"),
    "SYN_RECV": ("SYN_RECEIVED",),
    "LISTENING": ("LISTEN",),
    "UNCONN": ("UNCONNECTED",),
    "CLOSE": ("CLOSED",),
    "FIN_WAIT1": ("FIN_WAIT_1",),
    "FIN_WAIT2": ("FIN_WAIT_2",),
    "HALF_OPEN": ("SYN_SENT", "SYN_RECEIVED"),
    "OPEN": ("ESTABLISHED", "CONNECTED", "LISTEN", "UNCONNECTED"),
    "ENDING": ("FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "LAST_ACK", "CLOSING", "TIME_WAIT"),
    "ALL": NAMES,
}


def states_called(word: str) -> tuple[str, ...]:
    """Return the states that *word* means, in any case, with - or _. Raises InputError.

    Worked example: "time-wait" -> TIME_WAIT; "estab" -> ESTABLISHED, CONNECTED; "ending" -> all on their way out.
    """
    plain = word.upper().replace("-", "_")
    if plain in _OTHER_WORDS:
        return _OTHER_WORDS[plain]
    if plain in NAMES:
        return (plain,)
    known = ", ".join(sorted({*NAMES, *_OTHER_WORDS})).lower()
    raise InputError(f"no state is called '{word}'", f"states and groups of them: {known}")
