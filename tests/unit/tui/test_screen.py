"""The screen, driven by keys; its pictures compared with those that were looked at (tests/golden/view-*.svg).

`LAYERGATE_GOLDEN=write` writes them anew, to be looked at.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("textual", reason="the extra `view` is not installed")

from layergate.policyfile import TableResolver, load_text
from layergate.sockets.diagnosis import diagnose
from layergate.sockets.diagnosis.finding import Finding
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.passage import Passages, Passed
from layergate.sockets.subject import Subject
from layergate.sockets.tcp_info import TcpInfo
from layergate.sockets.transitions import Transition
from layergate.tui.app import STYLES, ViewApp
from layergate.tui.frame import frame
from layergate.tui.model import Request
from layergate.tui.rows import Row
from tests.unit.sockets.example import NO_INFO, OWNERS, endpoint
from tests.unit.sockets.test_diagnosis import close_wait, evidence
from tests.unit.sockets.test_histograms import transition

POLICY = load_text(
    """
    [[filter]]
    name = "no answers to strangers"
    layer = "OUTBOUND_TRANSPORT"
    action = "block"
    when = { local_port = 80, remote_address = "203.0.113.0/24" }
    """,
    file="policy.toml",
    resolver=TableResolver(),
).policy
GOLDEN = Path(__file__).parents[2] / "golden"


class FakeFeed:
    """A host with a few connections, where time stands still between lists."""

    problem = ""

    def __init__(self) -> None:
        self.lists = [self._list(9), self._list(11)]
        self.told: list[Transition] = []
        self.carried_out: list[Request] = []
        self.is_closed = False
        self.asked: dict[int, int] = {}

    @staticmethod
    def _list(count: int) -> list[Endpoint]:
        made = [
            endpoint("LISTEN", "0.0.0.0:80", None, inode=101, owners=OWNERS, cookie=1),
            endpoint("LISTEN", "[::]:443", None, inode=101, owners=OWNERS, cookie=2),
            endpoint("UNCONNECTED", "127.0.0.1:53", None, protocol="udp", cookie=3),
        ]
        for number in range(4, count):
            state, inode = ("ESTABLISHED", 101) if number % 3 else ("CLOSE_WAIT", 102)
            remote = f"203.0.113.{number}:5000"
            made.append(endpoint(state, remote=remote, inode=inode, owners=OWNERS, cookie=number))
        return made

    def due(self) -> bool:
        return bool(self.lists)

    def endpoints(self) -> list[Endpoint]:
        return self.lists.pop(0)

    def events(self) -> Iterable[Transition]:
        told, self.told = self.told, []
        return told

    def figures(self, rows: Iterable[Row]) -> Iterator[tuple[int, TcpInfo]]:
        for row in rows:
            one = row.subject
            if isinstance(one, Endpoint) and one.state == "ESTABLISHED":
                self.asked[one.cookie] = times = self.asked.get(one.cookie, 0) + 1
                idle = 40_000 * one.cookie
                sent = 100 * one.cookie * times**2
                yield (
                    one.cookie,
                    NO_INFO._replace(
                        rtt_us=1000 * one.cookie, bytes_sent=sent, last_data_sent_ms=idle, last_data_received_ms=idle
                    ),
                )

    def passage(self, subject: Subject, *, is_server: bool) -> list[Passed]:
        return list(Passages(POLICY).of(subject, is_server=is_server, recorded="web is served"))

    def findings(self) -> list[Finding]:
        return diagnose(evidence(*close_wait(6, ms=41_000)))

    def carry_out(self, request: Request) -> str:
        self.carried_out.append(request)
        return "1 of 1 closed"

    def close(self) -> None:
        self.is_closed = True


def driven(*presses: str, feed: FakeFeed | None = None, size: tuple[int, int] = (80, 24)) -> tuple[ViewApp, str]:
    """Run the screen, press keys, and return the app and its picture."""
    feed = feed or FakeFeed()

    async def drive() -> tuple[ViewApp, str]:
        app = ViewApp(feed, clock=lambda: 1000.0)
        app._figures_at = float("inf")
        async with app.run_test(size=size) as pilot:
            for _ in range(100):
                await pilot.pause(0.02)
                if not feed.lists and not app._listing:
                    break
                app.tick()
            for second in range(6):  # six samples of what is on the screen
                app._clock = lambda second=second: 1000.0 + second / 4  # type: ignore[misc]
                app._figures_at = 0.0
                app.tick()
            app._figures_at = float("inf")
            for key in presses:
                await pilot.press(key)
                await pilot.pause(0.02)
            for _ in range(100):
                await pilot.pause(0.02)
                if not app._diagnosing and not app.workers._workers:
                    break
            await pilot.pause(0.1)
            return app, app.export_screenshot(title="layergate view")

    return asyncio.run(drive())


def picture(svg: str) -> str:
    """Return *svg* without what differs from run to run: the name that its styles are given."""
    return re.sub(r"terminal-\d+", "terminal", svg)


@pytest.mark.parametrize(
    "name, presses",
    [
        ("list", ()),
        ("filtered", ("slash", *"port:80", "enter", "s", "s", "s")),
        ("grouped", ("a", "enter")),
        ("details", ("G", "enter")),
        ("processes", ("3",)),
        ("findings", ("4",)),
        ("help", ("h",)),
        ("question", ("G", "x")),
    ],
)
def test_the_screen_looks_as_it_did(name: str, presses: tuple[str, ...]) -> None:
    _, svg = driven(*presses)
    place = GOLDEN / f"view-{name}.svg"
    if os.environ.get("LAYERGATE_GOLDEN") == "write":
        place.write_text(picture(svg), encoding="utf-8")
    assert picture(svg) == place.read_text(encoding="utf-8")


def test_every_style_of_a_frame_is_known_to_the_screen() -> None:
    app, _ = driven("a", "enter", "x")
    used = {style for tab in "12345" for line in frame(app.model, 80, 24) for _, style in line if tab}
    assert used <= STYLES.keys()


def test_a_yes_is_carried_out_and_its_answer_told() -> None:
    feed = FakeFeed()
    app, _ = driven("G", "x", "y", feed=feed)
    assert [request.what for request in feed.carried_out] == ["close"]
    assert app.model.message == "1 of 1 closed"


def test_an_event_is_on_the_screen_at_the_next_tick() -> None:
    feed = FakeFeed()
    feed.told = [transition(cookie=99, **{"from": 2, "to": 1})]
    app, _ = driven(feed=feed)
    assert app.model.rows.history[99][0].to == "ESTABLISHED"


def test_q_ends_it() -> None:
    app, _ = driven("q")
    assert app.model.is_over
    assert app.return_code in (0, None)
