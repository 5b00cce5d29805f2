"""Blocking what the cursor is on, as filters in a policy file: one that connects to it, one that accepts it.

The file is read again with the new filters before it is replaced: a policy with an error is never written. Whoever
enforces the file (`layergate run --policy FILE`) tells of itself in a record (live/record.py); it is told to read the
file again, and its record says when it has. Without --policy the file is that of the run there is, where there is one.

Worked example: "block remote" on a connection to 203.0.113.9 adds

    [[filter]]
    name = "view: connects to 203.0.113.9"
    layer = "ALE_AUTH_CONNECT"
    action = "block"
    when = { remote_address = "203.0.113.9" }

and the same at ALE_AUTH_RECV_ACCEPT.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Final

from layergate.live import record
from layergate.live.names import SystemResolver
from layergate.model import InputError
from layergate.policyfile import load_file
from layergate.tui.model import Request

IN_FORCE_S: Final = 2.0  # how long to wait for a big policy to be compiled; a small one takes some milliseconds
LOOK_S: Final = 0.02


def filter_text(request: Request) -> str:
    """Return the filters of *request* as TOML."""
    one = request.rows[0].subject
    if request.what == "block remote":
        field, value = "remote_address", one.remote_address
        words = {"ALE_AUTH_CONNECT": f"connects to {value}", "ALE_AUTH_RECV_ACCEPT": f"accepts from {value}"}
    else:
        field, value = "app", one.process.app if one.process else None
        words = {"ALE_AUTH_CONNECT": f"{value} connects", "ALE_AUTH_RECV_ACCEPT": f"{value} accepts"}
    if value is None:
        raise InputError("nothing to block", "an endpoint with a remote address, or of a known application")
    return "".join(
        f'\n[[filter]]\nname = {_quoted(f"view: {name}")}\nlayer = "{layer}"\naction = "block"\n'
        f"when = {{ {field} = {_quoted(value)} }}\n"
        for layer, name in words.items()
    )


def _quoted(text: str) -> str:
    """Return *text* as a TOML string: JSON's escapes are TOML's too."""
    return json.dumps(text, ensure_ascii=False)


def add_filters(policy: Path | None, request: Request) -> str:
    """Add the filters of *request* to *policy*; return what to tell. Raises PolicyError, InputError, OSError."""
    if policy is None:
        policy = _only_policy()
    text = policy.read_text(encoding="utf-8") if policy.exists() else ""
    added = filter_text(request)
    if added in text:
        return f"{_enforced(policy, filter_names(request))}; {policy} has these filters already"
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=policy.parent, suffix=".toml", delete=False) as new:
        new.write(text + added)
    place = Path(new.name)
    try:
        load_file(str(place), SystemResolver())
        if policy.exists():
            place.chmod(policy.stat().st_mode & 0o7777)
        place.replace(policy)
    finally:
        place.unlink(missing_ok=True)
    return f"{_enforced(policy, filter_names(request))}; 2 filters added to {policy}"


def filter_names(request: Request) -> set[str]:
    """Return the names of the filters of *request*."""
    return {str(one["name"]) for one in tomllib.loads(filter_text(request))["filter"]}


def _only_policy() -> Path:
    """Return the file that is in force, where there is one. Raises InputError."""
    files = sorted({one.policy for one in record.read_all()})
    if len(files) == 1:
        return Path(files[0])
    found = f"{len(files)} policies are in force" if files else "no policy file to add the filter to"
    raise InputError(found, "start with: layergate view --policy FILE")


def _enforced(policy: Path, names: set[str]) -> str:
    """Have whoever enforces *policy* read it again, and say whether the filters *names* are in force."""
    path = str(policy.absolute())
    runs = [one for one in record.read_all() if one.policy == path]
    if not runs:
        return "not in force: no layergate run has this policy"
    for one in runs:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGHUP)
    deadline = time.monotonic() + IN_FORCE_S
    waiting = {one.pid for one in runs}
    while waiting and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        there = {one.pid: set(one.filters.values()) for one in record.read_all()}
        waiting = {pid for pid in waiting if not names <= there.get(pid, set())}
    pids = ", ".join(str(one.pid) for one in runs)
    if waiting:
        return f"not in force after {IN_FORCE_S:g} s: the output of layergate run ({pids}) says why"
    return f"in force (layergate run, {pids})"
