"""The screen: passes keys to the model and lines to the terminal, and asks the feed when it is time. Textual's part.

What takes long (a whole list, a diagnosis, closing) runs beside, in a thread; the model is touched by the screen's own
alone.

Source: Textual, "Workers", "Line API".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final, TypeVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widget import Widget

from layergate.sockets.diagnosis.finding import Finding
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.passage import Passed
from layergate.tui.feed import Source
from layergate.tui.frame import frame
from layergate.tui.keys import press
from layergate.tui.model import Model

STYLES: Final = {
    "plain": "", "dim": "bright_black", "title": "bold", "head": "bold underline", "tab": "reverse bold",
    "accent": "cyan", "question": "bold reverse yellow", "selected": "reverse",
    "new": "green", "changed": "yellow", "closing": "red", "idle": "yellow", "stale": "red",
}  # fmt: skip
T = TypeVar("T")
_TICK_S: Final = 0.25
_FIGURES_S: Final = 1.0


class Lines(Widget):
    """All that is on the screen."""

    DEFAULT_CSS = "Lines { width: 100%; height: 100%; }"

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model

    def render(self) -> Text:
        """Return the frame."""
        text = Text(no_wrap=True, overflow="crop", end="")
        for number, line in enumerate(frame(self._model, self.size.width, self.size.height)):
            if number:
                text.append("\n")
            for words, style in line:
                text.append(words, STYLES[style])
        return text


class ViewApp(App[None]):
    """`layergate view`. *clock*: seconds, even."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []
    CSS = "Screen { background: ansi_default; }"

    def __init__(self, feed: Source, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ansi_color=True)
        self.model = Model()
        self._feed, self._clock = feed, clock
        self._lines = Lines(self.model)
        self._figures_at = self._passage_at = 0.0
        self._listing = self._diagnosing = self._passing = False

    def compose(self) -> ComposeResult:
        """Put the one widget there is on the screen."""
        yield self._lines

    def on_mount(self) -> None:
        """Begin."""
        self.model.message = self._feed.problem
        self.tick()
        self.set_interval(_TICK_S, self.tick)

    def on_key(self, event: events.Key) -> None:
        """Pass a key to the model, and do what follows from it."""
        event.stop()
        event.prevent_default()
        press(self.model, event.key, event.character)
        if self.model.is_over:
            self.exit()
            return
        request = self.model.take_request()
        if request is not None:
            self.run_worker(partial(self._beside, lambda: self._feed.carry_out(request), self._tell), thread=True)
        if self.model.tab == "details":
            self._ask_passage()
        if self.model.tab == "findings" and not self._diagnosing:
            self._diagnosing = True
            self.run_worker(partial(self._beside, self._feed.findings, self._diagnosed), thread=True)
        self._lines.refresh()

    def tick(self) -> None:
        """Take what the kernel has told, ask for what is due, and draw."""
        now = self._clock()
        rows, is_changed = self.model.rows, False
        for event in self._feed.events():
            rows.change(event, now)
            is_changed = True
        if rows.expire(now) or is_changed:
            self.model.refresh()
        if now >= self._figures_at:
            self._figures_at = now + _FIGURES_S
            visible = [
                rows.by_cookie[one] for one in self.model.visible() if isinstance(one, int) and one in rows.by_cookie
            ]
            for cookie, info in self._feed.figures(visible):
                rows.watch(cookie, info, now)
        if self.model.tab == "details":
            self._ask_passage()
        if not self._listing and self._feed.due():
            self._listing = True
            self.run_worker(partial(self._beside, self._feed.endpoints, self._listed), thread=True)
        self._lines.refresh()

    def _ask_passage(self) -> None:
        """Ask what the layers say of the row under the cursor, once a second, and at once when it is another row."""
        row, cookie = self.model.selected_row(), self.model.selected_cookie()
        now = self._clock()
        is_known = self.model.passage[0] == cookie
        if row is None or cookie is None or self._passing or (is_known and now < self._passage_at):
            return
        self._passing, self._passage_at = True, now + _FIGURES_S
        is_server = self.model.is_server(row)

        def ask() -> tuple[int, list[Passed]]:
            return cookie, self._feed.passage(row.subject, is_server=is_server)

        self.run_worker(partial(self._beside, ask, self._passed), thread=True)

    def _passed(self, passage: tuple[int, list[Passed]]) -> None:
        self._passing = False
        self.model.passage = passage
        self._lines.refresh()

    def _beside(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do *work* in this thread, and *then* take its result in the screen's."""
        self.call_from_thread(then, work())

    def _listed(self, endpoints: list[Endpoint]) -> None:
        self._listing = False
        self.model.rows.take(endpoints, self._clock())
        self.model.arrange()
        self._lines.refresh()

    def _diagnosed(self, findings: list[Finding]) -> None:
        self._diagnosing = False
        self.model.findings = findings
        self._lines.refresh()

    def _tell(self, message: str) -> None:
        self.model.message = message
        self._lines.refresh()
