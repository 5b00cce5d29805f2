"""`layergate explain`: what a policy says of one situation, or of recorded indications, and why.

Three ways to ask:

    layergate explain connect tcp 10.0.0.1 -> 1.2.3.4:443 --app /usr/bin/curl --policy F
    layergate explain --layer ALE_AUTH_CONNECT --value remote_port=443 --policy F
    layergate trace --json -- curl ... | layergate explain --indication - --policy F --json

The arrow of the first form points where the connection goes: with `accept` the remote side stands on its left. With
--wfp DUMP in place of --policy a Windows host answers, by what netsh wfp wrote there:

    layergate explain --wfp wfpstate.xml connect tcp 1.2.3.4:443 --app chrome.exe --value current_profile_id=2

What the question leaves out is empty. Whether a filter's security descriptor lets a token in is decided where --token
lists its SIDs; else such filters are named, with the answer either way, and so are callouts. A limit has counted
nothing, unless --count FILTER=N says otherwise. Exit status of the first
two forms: 0 permitted, 1 blocked; of the third 0, whatever the verdicts are; 2 where the question makes no sense.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Final

from layergate.ale.keys import ident_of, words
from layergate.analysis import outcomes
from layergate.cli import answers, output, questions
from layergate.cli.sources import Source, of_dump, of_policy
from layergate.engine import classify
from layergate.engine.explanation import account, doubts
from layergate.model import Action, Filter, Indication, InputError, Policy, Value, Verdict
from layergate.model.limits import Standing
from layergate.model.lines import TOKENS, normalized
from layergate.policyfile import field_name
from layergate.windows.questions import token

NAME: Final = "explain"
HELP: Final = "say what a policy decides in a situation, and why"

_OWNERS: Final = ("app", "user", "unit")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__.replace("`", "")
    parser.add_argument("question", nargs="*", metavar="WORD", help=f"the situation in words: {questions.FORM}")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--policy", metavar="FILE", help="the policy")
    asked.add_argument(
        "--wfp", metavar="FILE", help="what netsh wfp wrote on a Windows host: its state, or its filters"
    )
    parser.add_argument("--state", metavar="FILE", help="with --wfp: a state of the same host, for what FILE lacks")
    parser.add_argument("--token", metavar="SIDS", help="with --wfp: what the process' token holds: S-1-5-18,BA")
    parser.add_argument("--layer", help="the layer, with or without its family")
    parser.add_argument("--value", action="append", default=[], metavar="FIELD=VALUE", help="what is known there")
    parser.add_argument("--indication", metavar="FILE", help="indications as JSON Lines, - for standard input")
    for owner in _OWNERS:
        parser.add_argument(f"--{owner}", help=f"the socket's {owner}")
    parser.add_argument(
        "--count",
        action="append",
        default=[],
        metavar="FILTER=N",
        help="what the limit of a filter has counted, this attempt included (default: 0)",
    )
    parser.add_argument(
        "--filter-veto", action="store_true", help="let a plain filter's block override a hard permit above it"
    )
    parser.add_argument(
        "--all", action="store_true", help="show every filter, not only those that matched or nearly did"
    )
    parser.add_argument("--json", action="store_true", help="print JSON Lines")


def prepare(words: list[str]) -> list[str]:
    """Return *words* with arrows that no option parser takes for options."""
    return questions.with_arrows(words)


def run(arguments: argparse.Namespace) -> int:
    """Answer."""
    asked = [bool(arguments.question), bool(arguments.layer), bool(arguments.indication)]
    if sum(asked) != 1:
        raise InputError("not one question", f"--layer with --value, --indication FILE, or {questions.FORM}")
    if arguments.indication and (arguments.value or any(getattr(arguments, owner) for owner in _OWNERS)):
        raise InputError("--value beside --indication", "values from one of the two")
    if arguments.policy and (arguments.state or arguments.token):
        raise InputError("--state or --token with --policy", "these two belong to --wfp")
    source = of_policy(arguments.policy) if arguments.policy else of_dump(arguments.wfp, arguments.state)
    if arguments.indication:
        with questions.opened(arguments.indication) as lines:
            for indication in questions.indications(lines, arguments.indication):
                _answer(source, indication, arguments, is_one=False)
        return 0
    pairs = [questions.pair(text) for text in arguments.value]
    pairs += [(owner, getattr(arguments, owner)) for owner in _OWNERS if getattr(arguments, owner) is not None]
    layers: tuple[str, ...] = (arguments.layer,)
    if arguments.question:
        layers, said = questions.question(arguments.question)
        pairs = said + pairs
        if not any(field_name(name) == "FLAGS" for name, _ in pairs):
            pairs.append(("flags", questions.everyday_flags(said)))
    shown = [_shown(source, layer, pairs, arguments.token) for layer in layers]
    # A call passes several layers: the first that blocks has the last word.
    decisive = next((one for one in shown if _classify(source, one, arguments).action is Action.BLOCK), shown[-1])
    verdict = _answer(source, decisive, arguments, is_one=True)
    return 1 if verdict.action is Action.BLOCK else 0


def _shown(source: Source, layer: str, pairs: list[tuple[str, str]], sids: str | None) -> Indication:
    """Return what is asked of *layer*; a token is known to every field that tests it."""
    indication = questions.asked_of(layer, pairs, source.vocabulary)
    if sids is not None:
        held = token(sids)
        fields = (field for field in indication.layer.fields if field.type in TOKENS and "REMOTE" not in field.name)
        values = {field.name: Value(field.type, held.data) for field in fields}
        indication = replace(indication, values=values | dict(indication.values))
    # On Windows a dual-stack socket's IPv4 peer may be classified as IPv6; here it is IPv4 at every layer.
    return indication if source.is_offline else normalized(indication)


def _classify(source: Source, indication: Indication, arguments: argparse.Namespace) -> Verdict:
    return classify(
        source.ordered,
        indication,
        callouts=source.callouts,
        filter_veto=arguments.filter_veto,
        assumed=source.assumed(indication),
        counts=_Counted(arguments.count, source.policy),
    )


class _Counted:
    """Counts as --count says them. Raises InputError: no such filter, no limit, no number."""

    def __init__(self, said: list[str], policy: Policy) -> None:
        limited = {item.name for item in policy.filters if item.limit is not None}
        self._counts: dict[str, int] = {}
        for text in said:
            name, _, number = text.rpartition("=")
            if name not in limited:
                names = ", ".join(f"'{one}'" for one in sorted(limited)) or "no filter has one"
                raise InputError(
                    f"--count {text}: no filter of that name has a limit", f"FILTER=N; with a limit: {names}"
                )
            if not number.isascii() or not number.isdigit():
                raise InputError(f"--count {text}: '{number}' is no count", "a whole number, 0 or more")
            self._counts[name] = int(number)

    def standing(self, item: Filter, indication: Indication) -> Standing:
        """Return what was said of *item*."""
        assert item.limit is not None
        count = self._counts.get(item.name, 0)
        key = words(item.limit.key, ident_of(item.limit.key, indication.values))
        return Standing(count, item.limit.threshold, count > item.limit.threshold, key=key)


def _answer(source: Source, indication: Indication, arguments: argparse.Namespace, *, is_one: bool) -> Verdict:
    """Print the verdict on *indication*, and return it; what would change it only where it *is_one* alone."""
    verdict = _classify(source, indication, arguments)
    assumed = source.assumed(indication)
    depends = outcomes.dependences(source.ordered, indication, assumed, source.callouts) if source.is_offline else ()
    if arguments.json:
        output.json_line(answers.verdict_line(verdict, indication, doubts(verdict), depends))
        return verdict
    accounts = account(source.ordered, indication, verdict, assumed=assumed)
    changes = (
        outcomes.changes(source.ordered, indication, verdict, accounts, source.callouts, assumed) if is_one else ()
    )
    reasons = answers.Reasons(doubts(verdict), changes, depends)
    text = answers.Answers(source.policy, is_windows=source.is_offline, is_whole=arguments.all)
    sys.stdout.write("\n".join(text.answer(verdict, indication, accounts, reasons)) + "\n")
    return verdict
