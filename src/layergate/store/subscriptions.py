"""Who wants to hear of changes, and what they have not yet heard.

Notifications come after the commit, never for one's own session's changes, and are not to be relied on: a queue that
nobody empties loses the newest, and counts them.
Source: Microsoft, "Object Management", FwpmFilterSubscribeChanges0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layergate.store.records import Kind, Object, Record

if TYPE_CHECKING:
    from layergate.store.sessions import Session


@dataclass(frozen=True, slots=True)
class Change:
    """An object came (*is_added*) or went."""

    record: Record
    is_added: bool


@dataclass(eq=False)
class Subscription:
    """The changes of one *kind* that *wanted* picks, as *session* asked for them; `take` gives them."""

    session: Session
    kind: Kind
    wanted: Callable[[Object], bool]
    on_add: bool
    on_delete: bool
    depth_max: int
    lost: int = 0
    _queue: list[Change] = field(default_factory=list)

    def offer(self, change: Change, by: Session | None) -> None:
        """Keep *change*, made *by* a session, if it is wanted and there is room."""
        is_asked_for = self.on_add if change.is_added else self.on_delete
        if by is self.session or change.record.kind is not self.kind or not is_asked_for:
            return
        if not self.wanted(change.record.object):
            return
        if len(self._queue) >= self.depth_max:
            self.lost += 1
        else:
            self._queue.append(change)

    def take(self) -> list[Change]:
        """Return what has come since the last time, oldest first."""
        taken, self._queue = self._queue, []
        return taken
