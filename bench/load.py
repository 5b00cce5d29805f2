"""The traffic: load.c, run in the place's namespace and group, one command at a time."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable
from typing import Self

from bench.place import Place
from layergate.model import InternalError

Attend = Callable[[Callable[[], bool]], None]


class Load:
    """A running load.c. Use it as a context manager: leaving it ends the process."""

    def __init__(self, place: Place) -> None:
        def settle() -> None:
            place.hierarchy.join(place.cgroup)
            os.sched_setaffinity(0, place.load_cpus)

        with place.namespace.entered():
            self._process = subprocess.Popen(
                [place.load],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is ours to hear; leaving ends it
                preexec_fn=settle,  # noqa: PLW1509 (no threads here)
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        """Return it, running."""
        return self

    def __exit__(self, *reason: object) -> None:
        """End it."""
        self._commands.close()
        self._process.kill()
        self._process.wait()
        self._answers.close()

    def run(self, command: str, count: int, attend: Attend) -> int:
        """Do *command* *count* times while *attend* attends to what is attached; return how long it took, in ns.

        Raises InternalError: the load failed (its message is on standard error).
        """
        self._commands.write(f"{command} {count}\n".encode())
        attend(self._is_done)
        answer = self._answers.readline()
        if not answer:
            raise InternalError(f"bench: the load ended at '{command} {count}', status {self._process.wait()}")
        return int(answer)

    def _is_done(self) -> bool:
        return bool(select.select([self._answers], [], [], 0)[0])
