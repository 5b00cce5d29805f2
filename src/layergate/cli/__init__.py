"""The command `layergate`: one file per verb, imported only when it is asked for.

A verb's module has NAME, HELP, `configure(parser)` and `run(arguments) -> status`; it may have `prepare(words) ->
words`, which sees its command line before the parser does. Exit status: 0 done, 1 the answer is no, 2 wrong use or
wrong input, 3 the machine can't, 130 interrupted. Errors become lines: on standard error for people, on standard
output with `--json`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from layergate import __version__
from layergate.cli import output
from layergate.model.errors import InputError, NotSupportedError, PolicyError

VERBS: Final = (
    "trace", "run", "guard", "simulate", "explain", "check", "diff", "compile", "windows",
    "ls", "states", "rtt", "close", "diagnose", "view",
    "detach", "doctor", "schema", "demo",
)  # fmt: skip

DONE: Final = 0
NO: Final = 1
WRONG: Final = 2
UNABLE: Final = 3
INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (the process's own where None); return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    output.be_robust()
    try:
        return _dispatch(words)
    except SystemExit as leaving:  # argparse has said what there is to say
        return leaving.code if isinstance(leaving.code, int) else WRONG if leaving.code else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"layergate: {error.filename or 'standard output'}: {error.strerror}\n")
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return WRONG
        # Whoever reads has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _dispatch(words: list[str]) -> int:
    """Find the verb, and run it."""
    verb = words[0] if words else ""
    module = _verb(verb) if verb in VERBS else None
    if module is None:
        return _help(words)
    parser = argparse.ArgumentParser(prog=f"layergate {verb}", description=module.HELP, allow_abbrev=False)
    module.configure(parser)
    prepare = getattr(module, "prepare", list)
    arguments = parser.parse_args(prepare(words[1:]))
    is_json = bool(getattr(arguments, "json", False))
    try:
        status = int(module.run(arguments))
        sys.stdout.flush()
    except PolicyError as error:
        for problem in error.problems:
            output.problem(problem, is_json=is_json)
        return WRONG
    except InputError as error:
        output.input_error(error, is_json=is_json)
        return WRONG
    except NotSupportedError as error:
        output.not_supported(error, is_json=is_json)
        return UNABLE
    return status


def _verb(name: str) -> ModuleType | None:
    """Return the module of the verb *name*, None where this installation has none."""
    place = f"{__name__}.{name}"
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name != place:
            raise
        return None


def _help(words: list[str]) -> int:
    """Say which verbs there are: what was asked for (0), or what was meant (2)."""
    parser = argparse.ArgumentParser(
        prog="layergate", description="The Windows Filtering Platform's model for Linux.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"layergate {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    for name in VERBS:
        module = _verb(name)
        if module is not None:
            verbs.add_parser(name, help=module.HELP)
    if not words:
        parser.print_help(sys.stderr)
        return WRONG
    close = difflib.get_close_matches(words[0], VERBS, 1)
    if close and words[0] not in VERBS:
        parser.error(f"unknown verb '{words[0]}'; did you mean '{close[0]}'?")
    parser.parse_args(words)
    return WRONG
