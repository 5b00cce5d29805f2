"""The kernel decides as the engine does: random policies over real connections, each line asked again of `explain`.

Policies are drawn from small pools of values, so that filters collide; connections too, so that filters meet them.
Sessions that live on when the next policy comes into force are authorised again. Each indication carries the version
that it was decided in and the values that it was decided on; `explain --indication -` must give the same action by the
same filter.
"""

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from layergate.kernel.cgroups import Cgroup
from layergate.kernel.hooks import HOOKS, Hook
from tests.live.lab import LAYERGATE, PYTHON, STEP_S_MAX, Line, Tracer, inside, ip, layer, neighbour

pytestmark = pytest.mark.live

SEEDS = range(int(os.environ.get("LAYERGATE_PARITY_SEEDS", "24")))
SUBLAYER_WEIGHTS = (0x100, 0x4000, 0x9000, 0xF000)
ADDRESSES = (
    '"127.0.0.1"', '"127.0.0.2"', '"10.77.0.1"', '"127.0.0.0/8"', '"10.0.0.0/9"', '"127.0.0.1-127.0.0.2"',
    '"::1"', '"fd77::1"', '"fd77::/16"', '"fd77::-fd77::ff"', '"::ffff:127.0.0.1"', '"10.78.0.2"', '"empty"',
)  # fmt: skip
LOCAL_PORTS = ("2001", "2002", "2003", "2004", "3001", "3002", '"2001-2003"', '"3000-3999"', '"30000-65535"', '"empty"')
FLAGS = ('"loopback"', '"reauthorize"', '"wildcard_bind"', '"implicit_bind"')


# --- policies -------------------------------------------------------------------------------------------------------


@dataclass
class Drawn:
    """A policy that is drawn from *seed*. *units*: control groups to name; *apps*: executables."""

    seed: int
    apps: tuple[str, ...]
    units: tuple[str, ...]
    dice: random.Random = field(init=False)

    def text(self) -> str:
        """Return it as TOML."""
        self.dice = random.Random(f"policy {self.seed}")
        weights = self.dice.sample(SUBLAYER_WEIGHTS, self.dice.randint(1, 3))
        parts = [f'[[sublayer]]\nname = "s{weight:x}"\nweight = {weight}' for weight in weights]
        sublayers = [*(f"s{weight:x}" for weight in weights), None]
        # Few layers are blocked in one policy: what is blocked early never comes to the layers behind it.
        blocking = {hook.layer for hook in self.dice.sample([hook for hook in HOOKS if hook.blocked], 4)}
        blocking.add([hook.layer for hook in HOOKS if hook.blocked][self.seed % 12])
        for number in range(self.dice.randint(25, 40)):
            hook = self.dice.choice(HOOKS)
            action = "block" if hook.layer in blocking and self.dice.random() < 0.5 else "permit"
            parts.append(self.filter(f"p{self.seed}f{number}", hook, action, self.dice.choice(sublayers)))
        for name in sorted(blocking):
            hook = next(hook for hook in HOOKS if hook.layer == name)
            parts.append(self.filter(f"p{self.seed}-{name}", hook, "block", self.dice.choice(sublayers)))
        return "\n\n".join(parts) + "\n"

    def filter(self, name: str, hook: Hook, action: str, sublayer: str | None) -> str:
        """Return one filter."""
        rows = ["[[filter]]", f'name = "{name}"', f'layer = "{hook.layer}{self.dice.choice(["", "", "_V4", "_V6"])}"']
        if hook.layer.endswith("_DISCARD"):
            rows[2] = f'layer = "{hook.layer}"'
        rows.append(f'action = "{action}"')
        if sublayer:
            rows.append(f'sublayer = "{sublayer}"')
        if action == "permit" and self.dice.random() < 0.25:
            rows.append("hard = true")
        kind = self.dice.random()
        if kind < 0.2:
            rows.append(f"weight = {self.dice.choice([0, 1, 7, 7, 1 << 60, (1 << 64) - 1])}")
        elif kind < 0.4:
            rows.append(f"weight_range = {self.dice.randint(0, 15)}")
        fewest = 1 if action == "block" else 0
        fields = self.dice.sample(hook.fields, min(len(hook.fields), self.dice.choice([fewest, 1, 1, 2, 2, 3])))
        at = rows[2]
        if {"IP_LOCAL_ADDRESS", "IP_REMOTE_ADDRESS"} <= set(fields) and "_V" not in at:
            # Both of one family: else nothing has both, and the policy is refused.
            at = self.dice.choice(["_V4", "_V6"])
        conditions = {name: self.condition(name, at) for name in fields}
        if conditions:
            rows.append("when = { " + ", ".join(f"{name} = {value}" for name, value in conditions.items()) + " }")
        return "\n".join(rows)

    def condition(self, name: str, at: str) -> str:
        """Return a value for the field *name*."""
        draw = self.dice.choice
        if name == "ALE_APP_ID":
            path = f'"{draw(self.apps)}"'
            return draw([path, path, f"{{ not = {path} }}", f'[{path}, "/usr/bin/env"]', '"empty"'])
        if name == "ALE_USER_ID":
            return draw(["0", "12345", "[0, 12345]", "{ not = 0 }", "{ not = 12345 }", '"root"'])
        if name == "ALE_PACKAGE_ID":
            unit = f'"{draw(self.units)}"'
            return draw([unit, f"{{ not = {unit} }}", '"empty"'])
        if name == "IP_PROTOCOL":
            return draw(['"tcp"', "[6, 17]", '{ not = "udp" }', '"udp"', '"0-6"'])
        if name.endswith("_ADDRESS"):
            return self.address(at)
        if name.endswith("_PORT"):
            one, other = draw(LOCAL_PORTS), draw(LOCAL_PORTS)
            return draw(
                [one, one, f"[{one}, {other}]", "{ not = 2002 }", '{ not = ["2001-2002", 3001] }', f"{{ not = {one} }}"]
            )
        if name == "DIRECTION":
            return draw(['"inbound"', '"outbound"', '{ not = "inbound" }'])
        if name == "INTERFACE_INDEX":
            return draw(['"lo"', '"lg-here"', '{ not = "lo" }', '"1-1"', '["lo", 77]', '"empty"'])
        if name == "REAUTHORIZE_REASON":
            return draw(["{ any = [1] }", "{ none = [1] }", "{ all = [1] }", "0", "{ not = 0 }"])
        flag, another = draw(FLAGS), draw(FLAGS)
        return draw(
            [f"{{ {how} = [{flag}] }}" for how in ("all", "any", "none")] + [f"{{ any = [{flag}, {another}] }}"]
        )

    def address(self, at: str) -> str:
        """Return a value for an address at a layer."""
        draw = self.dice.choice
        v4 = [one for one in ADDRESSES if ":" not in one or "ffff" in one]
        v6 = [one for one in ADDRESSES if (":" in one and "ffff" not in one) or "empty" in one]
        pool = v4 if "_V4" in at else v6 if "_V6" in at else list(ADDRESSES)
        one, other = draw(pool), draw(pool)
        # "empty" is no address that a list of "not" could leave out.
        plain = draw([item for item in pool if "empty" not in item])
        return draw([one, one, f"[{one}, {other}]", f"{{ not = {plain} }}"])


# --- connections ----------------------------------------------------------------------------------------------------

SERVER = """
    def serve(listener):
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(accepted,), daemon=True).start()
    def echo(accepted):
        try:
            while text := accepted.recv(100):
                accepted.sendall(text)
            accepted.close()
        except OSError:
            pass
    for address, port, only in (
        ("127.0.0.1", 2001, False), ("0.0.0.0", 2002, False), ("::1", 2003, True), ("::", 2004, False),
        ("10.77.0.1", 2001, False), ("fd77::1", 2001, True), (None, 0, False),
    ):
        try:
            if address is None:
                listener = socket.socket()
                listener.listen()
            else:
                listener = listen(address, port, only=only)
        except OSError:
            continue
        listener.settimeout(None)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    pause()
    os._exit(0)
"""
CLIENT = """
    import random
    draw = random.Random({seed!r})
    REMOTES = (
        ("127.0.0.1", 2001), ("127.0.0.2", 2002), ("127.0.0.1", 2002), ("::1", 2003), ("::1", 2004),
        ("127.0.0.1", 2004), ("::ffff:127.0.0.1", 2001), ("::ffff:10.77.0.1", 2001), ("10.77.0.1", 2001),
        ("fd77::1", 2001), ("fd77::1", 2004),
        ("127.0.0.1", 2999), ("::1", 2999), ("::ffff:127.0.0.1", 2999), ("10.78.0.2", 2001), ("fd78::2", 2001),
    )
    LOCALS = {{
        "127": "127.0.0.1", "10.": "10.77.0.1", "::1": "::1", "fd7": "fd77::1", "::f": "::ffff:127.0.0.1",
    }}
    held = []
    def session(address, port, bound, way):
        try:
            client = connect(address, port, bound=bound, seconds=0.25)
            client.sendall(b"question")
            client.recv(100)
            if way == "hold":
                held.append(client)
            elif way == "reset":
                reset(client)
            else:
                client.close()
        except OSError:
            pass
    sessions = []
    for number in range({count}):
        address, port = draw.choice(REMOTES)
        bound = None
        if draw.random() < 0.4 and "78" not in address:
            mine = LOCALS["::f"] if "ffff" in address else LOCALS[address[:3]]
            bound = (draw.choice([mine, "::" if ":" in address else "0.0.0.0"]), draw.choice([0, {port}, {port} + 1]))
        way = draw.choice(["reset", "reset", "close", "hold"])
        sessions.append(threading.Thread(target=session, args=(address, port, bound, way)))
    if {user}:
        os.setuid({user})
    for one in sessions:
        one.start()
        time.sleep(0.003)
    for one in sessions:
        one.join()
    pause()
    for client in held:
        attempt(client.sendall, b"again")
        attempt(client.recv, 100)
        reset(client)
    os._exit(0)
"""
COUNT = 9


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another executable that runs the same programs."""
    copy = tmp_path_factory.mktemp("bin") / "another-python"
    shutil.copy(PYTHON, copy)
    return str(copy)


@dataclass
class Outcome:
    """What was told, by the version that decided, and the policies by version."""

    lines: list[Line]
    policies: dict[object, Path]


@pytest.fixture(scope="module")
def outcome(
    shared_trace: Tracer, netns: str, other_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    """Sessions under all policies, one after the other."""
    directory = tmp_path_factory.mktemp("policies")
    inner = shared_trace.make_group(f"{shared_trace.cgroup.path}/lg-inner")
    for address in ("10.77.0.1/32", "fd77::1/128"):
        ip("-n", netns, "addr", "add", address, "dev", "lo")
    try:
        with neighbour(netns):
            shared_trace.run("time.sleep(0.7)")
            yield Outcome(*_sessions(shared_trace, directory, inner, other_python))
    finally:
        shared_trace.stop()
        shared_trace.reload("")
        shared_trace.remove_group(inner)
        for address in ("10.77.0.1/32", "fd77::1/128"):
            ip("-n", netns, "addr", "del", address, "dev", "lo")


def _sessions(
    trace: Tracer, directory: Path, inner: Cgroup, other_python: str
) -> tuple[list[Line], dict[object, Path]]:
    policies: dict[object, Path] = {}
    running: list[subprocess.Popen[str]] = []
    trace.told()
    start = len(trace.lines)
    for seed in SEEDS:
        path = directory / f"policy-{seed}.toml"
        path.write_text(Drawn(seed, (PYTHON, other_python), (inner.path, "/lg-elsewhere")).text())
        policies[trace.reload(path.read_text())] = path
        # Sessions of the policy before go on under this one; then its server goes too.
        for process in running:
            process.communicate("\n", timeout=STEP_S_MAX)
        server = trace.start(SERVER)
        assert server.stdout is not None
        server.stdout.readline()
        user = 12345 * (seed % 2)
        clients = [
            trace.start(CLIENT.format(seed=f"{seed}a", count=COUNT, user=0, port=3001)),
            trace.start(
                CLIENT.format(seed=f"{seed}b", count=COUNT, user=user, port=3003), python=other_python, group=inner
            ),
        ]
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()
        running = [*clients, server]
    for process in running:
        process.communicate("\n", timeout=STEP_S_MAX)
    trace.told()
    return trace.lines[start:], policies


def told(outcome: Outcome, version: object) -> list[Line]:
    """Return the indications that were decided in *version*."""
    return [line for line in outcome.lines if line["kind"] == "indication" and line["version"] == version]


def explained(netns: str, policy: Path, lines: list[Line]) -> list[Line]:
    """Return what `explain` says of *lines*, in one process, in the namespace whose interfaces the policy names."""
    asked = subprocess.run(
        inside(netns, LAYERGATE, "explain", "--policy", str(policy), "--indication", "-", "--json"),
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr or asked.stdout
    return [json.loads(line) for line in asked.stdout.splitlines()]


def decision(line: Line) -> tuple[object, object]:
    """Return the action, and the name of the filter that decided."""
    return line["action"], line["filter_name"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_kernel_decides_as_the_engine_does(outcome: Outcome, netns: str, seed: int) -> None:
    version, policy = list(outcome.policies.items())[seed]
    lines = told(outcome, version)
    assert lines
    verdicts = explained(netns, policy, lines)
    assert len(verdicts) == len(lines)
    differences = [
        f"{layer(line)} {line['event']} of {line['host']}: kernel {decision(line)}, engine {decision(verdict)}, "
        f"on {line['values']}"
        for line, verdict in zip(lines, verdicts, strict=True)
        if decision(line) != decision(verdict)
    ]
    assert not differences, f"{policy.read_text()}\n" + "\n".join(differences[:5])


def test_the_policies_meet_the_sessions(outcome: Outcome) -> None:
    lines = [line for version in outcome.policies for line in told(outcome, version)]
    decided = [line for line in lines if line["filter"] is not None]
    assert len(decided) > 0.3 * len(lines)
    assert len({line["flow"] for line in lines}) > 10 * len(SEEDS)
    assert any(line["reauthorize"] for line in lines)
    met = Counter((layer(line).replace("_V4", "").replace("_V6", ""), line["action"]) for line in decided)
    missing = [(hook.layer, action) for hook in HOOKS if hook.blocked for action in ("permit", "block")
               if not met[hook.layer, action]]  # fmt: skip
    assert not missing


def test_a_filter_has_one_number_and_a_number_one_filter(outcome: Outcome) -> None:
    decided = [line for line in outcome.lines if line["kind"] == "indication" and line["filter"]]
    named = {(line["filter"], line["filter_name"], line["layer"]) for line in decided}
    assert len({number for number, _, _ in named}) == len({(name, at) for _, name, at in named})


def test_a_blocked_flow_names_the_filter_that_blocked_it(outcome: Outcome) -> None:
    own = [line for line in outcome.lines if line["kind"] == "drop" and line["by"] == "layergate"]
    assert own
    for line in own:
        assert line["filter_name"]
        assert line["layer"]
