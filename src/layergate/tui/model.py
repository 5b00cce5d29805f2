"""The view model: what is shown, what is chosen, what a key does. Pure: times and endpoints come as arguments.

- What has to happen outside (a connection closed, a filter added) is a `Request`, which is handed out once the user has
  said yes; nothing outside happens without one.
- The order is that of the last sorting: it is sorted anew when the list is, not at every change, so that rows don't
  jump under the cursor. New rows stand at the end until then. The cursor stays on its row, wherever that goes.

Worked example: keys `/`, `p`, `o`, `r`, `t`, `:`, `2`, `2`, Enter choose the rows of port 22; `x`, `y` ask for the one
under the cursor to be closed: `take_request()` is Request("close", (row,)).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from layergate.model import InputError
from layergate.sockets.columns import COLUMNS, row_text
from layergate.sockets.diagnosis.finding import Finding
from layergate.sockets.endpoint import Endpoint
from layergate.sockets.filters import Filter, parse
from layergate.sockets.passage import Passed
from layergate.sockets.subject import Subject
from layergate.tui.rows import Row, Rows

TABS: Final = ("list", "details", "processes", "findings", "help")
SORTS: Final = ("none", "state", "local", "remote", "process", "recv", "send")
_KEYS: Final = {column.name: column.key for column in COLUMNS}


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be done outside: "close", "block remote", "block app"; and to whom."""

    what: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What the user is asked before something happens: y does it, any other key does not."""

    text: str
    request: Request


@dataclass(slots=True)
class Group:
    """The rows of one process."""

    name: str
    cookies: list[int] = field(default_factory=list)


class Model:
    """See the module."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.tab = "list"
        self.sort, self.is_descending = "none", False
        self.words = ""
        self.prompt: str | None = None
        self.question: Question | None = None
        self.message = ""
        self.is_grouped = False
        self.shows_closing = True
        self.expanded: set[str] = set()
        self.findings: Sequence[Finding] = ()
        self.passage: tuple[int, Sequence[Passed]] = (0, ())  # of the row with that cookie
        self.order: list[int] = []
        self.groups: list[Group] = []
        self.cursor = 0
        self.top = 0
        self.page = 10
        self.is_over = False
        self._filter: Filter = parse([], row_text)
        self._request: Request | None = None

    # --- what the kernel tells --------------------------------------------------------------------------------------

    def arrange(self) -> None:
        """Choose and sort the rows anew. Cost: 1 µs a row, 3 µs where there are words or a sorting."""
        chosen = self.selected_cookie()
        by_cookie = self.rows.by_cookie
        if self._filter.tests:
            wanted = self._filter
            self.order = [cookie for cookie, row in by_cookie.items() if wanted(row.subject)]
        else:
            self.order = list(by_cookie)
        if self.sort != "none":
            key = _KEYS[self.sort]
            self.order.sort(key=lambda one: _sortable(key, by_cookie[one].subject), reverse=self.is_descending)  # type: ignore[arg-type,return-value]
        self._group()
        self._keep_cursor(chosen)

    def refresh(self) -> None:
        """Take in rows that came, leave out those that have gone; no sorting. Cost: 0.2 µs a row."""
        chosen = self.selected_cookie()
        by_cookie = self.rows.by_cookie
        known = set(self.order)
        kept = [cookie for cookie in self.order if cookie in by_cookie]
        new = (cookie for cookie in by_cookie if cookie not in known)
        self.order = kept + [cookie for cookie in new if self._filter(by_cookie[cookie].subject)]
        self._group()
        self._keep_cursor(chosen)

    def _group(self) -> None:
        if not (self.is_grouped or self.tab == "processes"):
            self.groups = []
            return
        groups: dict[str, Group] = {}
        for cookie in self.order:
            process = self.rows.by_cookie[cookie].subject.process
            name = f"{process.name}[{process.pid}]" if process else "(no process)"
            groups.setdefault(name, Group(name)).cookies.append(cookie)
        self.groups = sorted(groups.values(), key=lambda one: (-len(one.cookies), one.name))

    # --- what is shown ----------------------------------------------------------------------------------------------

    def lines(self) -> Sequence[int | Group]:
        """Return what the list shows, one a line: a row's cookie, or the head of a group."""
        if not self.is_grouped:
            return self._shown(self.order)
        shown: list[int | Group] = []
        for group in self.groups:
            shown.append(group)
            if group.name in self.expanded:
                shown += self._shown(group.cookies)
        return shown

    def _shown(self, cookies: list[int]) -> list[int]:
        if self.shows_closing:
            return cookies
        return [cookie for cookie in cookies if self.rows.by_cookie[cookie].mark != "closing"]

    def visible(self) -> Sequence[int | Group]:
        """Return the lines that are on the screen."""
        return self.lines()[self.top : self.top + self.page]

    def selected(self) -> int | Group | None:
        """Return the line under the cursor."""
        shown = self.lines()
        return shown[self.cursor] if self.cursor < len(shown) else None

    def selected_cookie(self) -> int | None:
        """Return the row under the cursor, None where that is none."""
        line = self.selected()
        return line if isinstance(line, int) and line in self.rows.by_cookie else None

    def selected_row(self) -> Row | None:
        """Return the row under the cursor."""
        cookie = self.selected_cookie()
        return None if cookie is None else self.rows.by_cookie[cookie]

    def is_server(self, row: Row) -> bool:
        """Whether the row's connection came in: somebody listens on its port."""
        port, protocol = row.subject.local_port, row.subject.protocol
        return any(
            other.subject.local_port == port and other.subject.has_no_remote and other.subject.protocol == protocol
            for other in self.rows.by_cookie.values()
        )

    def set_page(self, lines: int) -> None:
        """Say how many lines of the list fit on the screen."""
        self.page = max(lines, 1)
        self.move(0)

    def move(self, by: int) -> None:
        """Move the cursor, and the page with it."""
        count = len(self.lines())
        self.cursor = max(0, min(self.cursor + by, count - 1))
        self.top = max(0, min(self.top, count - self.page))
        if self.cursor < self.top:
            self.top = self.cursor
        elif self.cursor >= self.top + self.page:
            self.top = self.cursor - self.page + 1

    def _keep_cursor(self, cookie: int | None) -> None:
        if cookie is not None and cookie in self.rows.by_cookie:
            shown = self.lines()
            if not (self.cursor < len(shown) and shown[self.cursor] == cookie):
                with suppress(ValueError):
                    self.cursor = shown.index(cookie)
        self.move(0)

    # --- what is chosen ---------------------------------------------------------------------------------------------

    def choose(self, words: str) -> None:
        """Show only what *words* hold of; where they are none, say why and leave things as they are."""
        try:
            self._filter = parse(words.split(), row_text)
        except InputError as error:
            self.message = str(error)
            return
        if self._filter.needs_details:
            self._filter = parse(self.words.split(), row_text)
            self.message = "words that compare figures are for layergate ls: a list this long has no figures"
            return
        self.words = words.strip()
        self.message = ""
        self.arrange()

    def sort_by(self, name: str, *, is_descending: bool) -> None:
        """Sort by a column of SORTS."""
        self.sort, self.is_descending = name, is_descending
        self.arrange()

    def show(self, tab: str) -> None:
        """Turn to *tab*."""
        self.tab = tab
        self._group()

    def ask(self, what: str) -> None:
        """Ask the user whether *what* shall be done to the row under the cursor (or its whole group)."""
        line = self.selected()
        by_cookie = self.rows.by_cookie
        cookies = line.cookies if isinstance(line, Group) else [line] if line is not None else []
        rows = tuple(by_cookie[cookie] for cookie in cookies if cookie in by_cookie)
        if what == "close":
            rows = tuple(row for row in rows if isinstance(row.subject, Endpoint))
        problem = _problem(what, rows)
        if problem:
            self.message = problem
            return
        self.question = Question(f"{_question(what, rows)}? y/n", Request(what, rows))

    def answer(self, *, is_yes: bool) -> None:
        """Take the answer to the question."""
        if self.question is not None and is_yes:
            self._request = self.question.request
        self.message = "" if is_yes else "nothing done"
        self.question = None

    def take_request(self) -> Request | None:
        """Return what the user has said yes to, once."""
        request, self._request = self._request, None
        return request


def _sortable(key: object, subject: Subject) -> object:
    assert callable(key)
    return key(subject)


def _problem(what: str, rows: Sequence[Row]) -> str:
    if not rows:
        return "nothing is chosen" if what != "close" else "its socket is not known yet: a moment"
    if what == "block remote" and rows[0].subject.remote_address is None:
        return "it has no remote address to block"
    if what == "block app" and (rows[0].subject.process is None or not rows[0].subject.process.app):
        return "its application is not known"
    return ""


def _question(what: str, rows: Sequence[Row]) -> str:
    one = rows[0].subject
    if what == "close":
        return f"Close {one.local} - {one.remote or '*'}" if len(rows) == 1 else f"Close {len(rows)} connections"
    if what == "block remote":
        return f"Block {one.remote_address}, both ways"
    process = one.process
    return f"Block {process.app if process else ''} from connecting and accepting"
