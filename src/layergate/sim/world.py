"""A world to run hosts in: a clock that nobody waits for, programs, and one seed for all that is left to chance.

Time passes only from one event to the next. Events of one moment happen in the order in which they were asked for, so
that a run depends on its seed alone: the same seed gives the same run, on any machine.

A program is a coroutine. What it waits for is a `Signal`: a socket that becomes readable, a connection that is
established, a moment that comes.

    async def program(world):
        await world.sleep(1.0)

    world = World(seed=7)
    world.spawn(program(world))
    world.run()
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

EVENTS_MAX: Final = 50_000_000
"""A run of more events than that goes in circles."""


class RunawayError(Exception):
    """The world does not come to rest: *EVENTS_MAX* events happened."""


@dataclass(order=True, slots=True)
class Event:
    """Something that happens at *time*, unless it is *cancelled*."""

    time: float
    number: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Let it not happen."""
        self.cancelled = True


class Signal:
    """Something that programs wait for, again and again; `fire` wakes all who wait just now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[Task[Any]] = []

    def fire(self) -> None:
        """Wake those who wait: they go on at this moment, in the order in which they began to wait."""
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._world.at(self._world.now, task.step)

    def __await__(self) -> Generator[Signal, None, None]:
        """Wait for it."""
        yield self

    def wait(self, task: Task[Any]) -> None:
        """Have *task* woken."""
        self._waiting.append(task)


class Task(Generic[T]):
    """A program that runs. *done*: it has ended, with *result* or by *error*."""

    def __init__(self, world: World, program: Coroutine[Signal, None, T]) -> None:
        self._program = program
        self.ended = Signal(world)
        self.done = False
        self.result: T | None = None
        self.error: Exception | None = None

    def step(self) -> None:
        """Run to the next thing that the program waits for."""
        if self.done:
            return
        try:
            signal = self._program.send(None)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
            self.ended.fire()
        except Exception as error:  # noqa: BLE001 - it is the program's; whoever asks for the result gets it
            self.done, self.error = True, error
            self.ended.fire()
        else:
            signal.wait(self)

    def cancel(self) -> None:
        """End it where it waits."""
        if not self.done:
            self.done = True
            self._program.close()
            self.ended.fire()

    async def join(self) -> T:
        """Wait until it has ended; return its result, or raise its error."""
        while not self.done:
            await self.ended
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class World:
    """The clock, what is to happen, and chance."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.now = 0.0
        self._events: list[Event] = []
        self._numbers = itertools.count()

    def random(self, name: str) -> Random:
        """Return a source of chance of its own for *name*: what others draw does not move it."""
        return Random(f"{self.seed}:{name}")  # a text is hashed alike everywhere

    def at(self, time: float, action: Callable[[], None]) -> Event:
        """Have *action* happen at *time*, now at the earliest."""
        event = Event(max(time, self.now), next(self._numbers), action)
        heapq.heappush(self._events, event)
        return event

    def after(self, delay_s: float, action: Callable[[], None]) -> Event:
        """Have *action* happen in *delay_s* seconds."""
        return self.at(self.now + delay_s, action)

    def spawn(self, program: Coroutine[Signal, None, T]) -> Task[T]:
        """Start *program* at this moment."""
        task = Task(self, program)
        self.at(self.now, task.step)
        return task

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to happen within the next hundredth of a second."""
        return not self._events or self._events[0].time > self.now + 0.01

    async def sleep(self, delay_s: float) -> None:
        """Wait for *delay_s* seconds."""
        signal = Signal(self)
        self.after(delay_s, signal.fire)
        await signal

    async def first(self, *signals: Signal, within_s: float | None = None) -> bool:
        """Wait for any of *signals*, *within_s* seconds at most; return whether one came."""
        woken = Signal(self)
        outcome: list[bool] = []

        def wake(*, came: bool) -> None:
            if not outcome:
                outcome.append(came)
                woken.fire()

        waiting = [Task(self, _relay(signal, lambda: wake(came=True))) for signal in signals]
        for task in waiting:
            task.step()  # at once: what comes later in this moment would be missed
        timer = None if within_s is None else self.after(within_s, lambda: wake(came=False))
        await woken
        for task in waiting:
            task.cancel()
        if timer is not None:
            timer.cancel()
        return outcome[0]

    def run(self, until: float | None = None, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass: until nothing is left to happen, to the moment *until*, or until *stop* says so.

        Raises RunawayError. A program's error stays with its task.
        """
        for count in itertools.count():
            if stop() or not self._events or (until is not None and self._events[0].time > until):
                break
            if count >= EVENTS_MAX:
                raise RunawayError(f"{EVENTS_MAX} events by {self.now:.3f} s")
            event = heapq.heappop(self._events)
            if not event.cancelled:
                self.now = event.time
                event.action()
        if until is not None and not stop():
            self.now = max(self.now, until)


async def _relay(signal: Awaitable[None], action: Callable[[], None]) -> None:
    await signal
    action()
