"""Blocking what the cursor is on, as filters in a policy file: one that connects to it, one that accepts it.

The file is read again with the new filters before it is replaced: a policy with an error is never written. Whoever
enforces the file (`layergate run --policy FILE`) reads it again on SIGHUP.

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
import tempfile
from pathlib import Path

from layergate.live.names import SystemResolver
from layergate.model import InputError
from layergate.policyfile import load_file
from layergate.tui.model import Request


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
        raise InputError("no policy file to add the filter to", "start with: layergate view --policy FILE")
    text = policy.read_text(encoding="utf-8") if policy.exists() else ""
    added = filter_text(request)
    if added in text:
        return f"{policy} has these filters already"
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
    return f"2 filters added to {policy}; layergate run --policy {policy} enforces it, and reads it again on SIGHUP"
