"""The simulated host talks to the real kernel, over a TUN device in a namespace of its own."""

import hashlib
import subprocess
import threading
from collections.abc import Iterator

import pytest

from layergate.sim.link import LinkConfig
from layergate.sim.sockets import TcpSocket
from tests.live.lab import PYTHON, inside, namespace
from tests.live.tun import KERNEL, SIMULATED, Bridge

pytestmark = pytest.mark.live

BODY = hashlib.shake_256(b"ten megabytes").digest(10_000_000)
LOSSY = LinkConfig(delay_s=0.001, loss=0.01, reordering=0.01, reordering_s=0.004)
PORT = 8080
LONG_S = 120.0
both_families = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@pytest.fixture
def netns() -> Iterator[str]:
    with namespace("tun") as name:
        yield name


def url(address: str) -> str:
    return f"http://{f'[{address}]' if ':' in address else address}:{PORT}/"


async def serve(listener: TcpSocket, received: list[bytes]) -> None:
    """Answer one request: with BODY, having taken in what was uploaded."""
    accepted = await listener.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += await accepted.receive(65536)
    head, _, body = request.partition(b"\r\n\r\n")
    expected = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    parts, count = [body], len(body)
    while count < expected:
        parts.append(await accepted.receive(65536))
        count += len(parts[-1])
    received.append(b"".join(parts))
    await accepted.send(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    await accepted.send(BODY)
    accepted.close()


@both_families
def test_curl_exchanges_ten_megabytes_each_way_with_a_simulated_server_over_a_lossy_link(
    netns: str, version: int
) -> None:
    received: list[bytes] = []
    with Bridge(netns, LOSSY, seed=version) as bridge:
        listener = bridge.host.program("/usr/sbin/simulated").tcp()
        listener.bind(SIMULATED[version], PORT)
        listener.listen()
        bridge.world.spawn(serve(listener, received))
        with subprocess.Popen(
            inside(netns, "curl", "-sS", "-H", "Expect:", "--data-binary", "@-", url(SIMULATED[version])),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as curl:  # fmt: skip
            answer: list[bytes] = []
            reader = _drain(curl, answer)
            try:
                assert bridge.run(lambda: not reader.is_alive(), seconds=LONG_S), bridge.host.counts
            finally:
                curl.kill()
                reader.join()
    assert received == [BODY]
    assert answer == [BODY]


def _drain(process: subprocess.Popen[bytes], answer: list[bytes]) -> threading.Thread:
    reader = threading.Thread(target=lambda: answer.append(process.communicate(BODY)[0]))
    reader.start()
    return reader


FETCHED_FROM = f"""
import http.server, sys, hashlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = hashlib.shake_256(b"ten megabytes").digest(10_000_000)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(hashlib.sha256(body).hexdigest().encode())
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = 10 if ":" in sys.argv[1] else 2
server = Server((sys.argv[1], {PORT}), Handler)
sys.stdout.write("listening\\n")
sys.stdout.flush()
server.serve_forever()
"""


@both_families
def test_a_simulated_client_exchanges_ten_megabytes_each_way_with_a_real_server_over_a_lossy_link(
    netns: str, version: int
) -> None:
    with Bridge(netns, LOSSY, seed=version) as bridge, subprocess.Popen(
        inside(netns, PYTHON, "-c", FETCHED_FROM, KERNEL[version]), stdout=subprocess.PIPE
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listening\n"

            async def ask(request: bytes) -> bytes:
                client = bridge.host.program("/usr/bin/simulated").tcp()
                await client.connect(KERNEL[version], PORT)
                await client.send(request)
                answer = b""
                parts = []
                while data := await client.receive(1 << 20):
                    parts.append(data)
                answer = b"".join(parts)
                client.close()
                return answer.partition(b"\r\n\r\n")[2]

            fetched = bridge.world.spawn(ask(b"GET / HTTP/1.0\r\n\r\n"))
            assert bridge.run(lambda: fetched.done, seconds=LONG_S)
            assert fetched.result == BODY, fetched.error
            head = b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(BODY)
            sent = bridge.world.spawn(ask(head + BODY))
            assert bridge.run(lambda: sent.done, seconds=LONG_S)
            assert sent.result == hashlib.sha256(BODY).hexdigest().encode(), sent.error
        finally:
            server.kill()
