"""Smoke test of the NATS door with nats-py, a client we did not write.

Each check is a function of its own; the program says what each found and fails if one did. The
server is started by this program on free ports and ended by it through its own handle.

Left to others: how fast anything is (src/bin/), the codec's details (crates/pinnace-nats).
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

import nats
from nats.errors import NoRespondersError

PATIENCE_S = 5.0
READY_S = 10.0
END_S = 15.0


class Server:
    """A server process; ended on the way out."""

    def __init__(self, program: Path):
        self.folder = tempfile.TemporaryDirectory(prefix="peers-clients-")
        arguments = [program, "serve", "--json", "--data", "data"]
        arguments += ["--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"]
        arguments += ["--exit-when-idle", "10m"]  # should this program be killed
        self.errors = open(Path(self.folder.name) / "stderr", "w+b")
        self.process = subprocess.Popen(
            arguments,
            cwd=self.folder.name,
            env={"HOME": self.folder.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    async def ready(self) -> None:
        line = await asyncio.wait_for(
            asyncio.to_thread(self.process.stdout.readline), READY_S
        )
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"the server ended: {self.errors.read().decode()}")
        ready = json.loads(line)
        self.http, self.nats = ready["http"], ready["nats"]

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.folder.cleanup()

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict, bytes]:
        request = urllib.request.Request(self.http + path, data=body or None, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, dict(answer.headers), answer.read()


def same(found, expected):
    """Found must be what was expected; returns it for the report."""
    if found != expected:
        raise AssertionError(f"found {found!r}, expected {expected!r}")
    return found


async def connect(server: Server, name: str):
    return await nats.connect(server.nats, name=name, allow_reconnect=False)


async def publish_and_subscribe(server):
    one, other = await connect(server, "pub"), await connect(server, "sub")
    plain = await other.subscribe("smoke.pub")
    star = await other.subscribe("smoke.*")
    rest = await other.subscribe("smoke.>")
    await other.flush()
    sent = [b"", b"hello", bytes(range(256)), b"x" * (1 << 20)]
    for payload in sent:
        await one.publish("smoke.pub", payload)
    for subscription in (plain, star, rest):
        got = [(await subscription.next_msg(PATIENCE_S)).data for _ in sent]
        same([len(data) for data in got], [len(data) for data in sent])
        same(got == sent, True)
    await one.close()
    await other.close()
    return f"{len(sent)} payloads of 0 to 1 MiB in order on a topic, `*` and `>`"


async def headers(server):
    one = await connect(server, "headers")
    subscription = await one.subscribe("smoke.headers")
    sent = {"Trace": "abc", "Another": "0; with=signs, and blanks"}
    await one.publish("smoke.headers", b"body", headers=sent)
    message = await subscription.next_msg(PATIENCE_S)
    same(message.headers, sent)
    same(message.data, b"body")
    await one.close()
    return f"{sent} beside the body"


async def queue_groups(server):
    one = await connect(server, "groups")
    counts = [0, 0, 0]
    done = asyncio.Event()
    total = 300

    def taker(member):
        async def take(_message):
            counts[member] += 1
            if sum(counts) >= total:
                done.set()

        return take

    for member in range(3):
        await one.subscribe("smoke.group", queue="workers", cb=taker(member))
    outside = await one.subscribe("smoke.group")
    await one.flush()
    for number in range(total):
        await one.publish("smoke.group", str(number).encode())
    await asyncio.wait_for(done.wait(), PATIENCE_S)
    same([int((await outside.next_msg(PATIENCE_S)).data) for _ in range(total)], list(range(total)))
    # A full round trip: whatever was delivered twice would be here by now.
    await one.flush()
    same(sum(counts), total)
    same(min(counts) > 0, True)
    await one.close()
    return f"{total} messages once each over members {counts}, and all to a plain subscriber"


async def request_and_reply(server):
    one, other = await connect(server, "asks"), await connect(server, "answers")

    async def answer(message):
        await message.respond(message.data[::-1])

    await other.subscribe("smoke.reverse", cb=answer)
    await other.flush()
    asked = [f"word-{number}".encode() for number in range(50)]
    answers = await asyncio.gather(
        *(one.request("smoke.reverse", word, timeout=PATIENCE_S) for word in asked)
    )
    same([answer.data for answer in answers], [word[::-1] for word in asked])
    await one.close()
    await other.close()
    return f"{len(asked)} requests at once, each with its own answer"


async def no_responders(server):
    one = await connect(server, "nobody")
    began = time.monotonic()
    try:
        await one.request("smoke.nobody", b"?", timeout=PATIENCE_S)
    except NoRespondersError:
        took = time.monotonic() - began
        same(took < PATIENCE_S / 2, True)
        await one.close()
        return f"NoRespondersError after {took * 1e3:.1f} ms, not a timeout"
    raise AssertionError("somebody answered")


async def drain(server):
    one, other = await connect(server, "drains"), await connect(server, "publishes")
    got = []

    async def take(message):
        await asyncio.sleep(0)
        got.append(int(message.data))

    await one.subscribe("smoke.drain", cb=take)
    await one.flush()
    for number in range(200):
        await other.publish("smoke.drain", str(number).encode())
    await other.flush()
    await one.drain()
    same(got, list(range(200)))
    same(one.is_closed, True)
    await other.close()
    return "200 messages under way were all handled before the connection closed"


async def unsubscribe_after(server):
    one = await connect(server, "max")
    got = []

    async def take(message):
        got.append(int(message.data))

    subscription = await one.subscribe("smoke.max", cb=take)
    await subscription.unsubscribe(limit=3)
    for number in range(10):
        await one.publish("smoke.max", str(number).encode())
    # Subscriptions of one connection are served in order, so this is later than all of them.
    after = await one.subscribe("smoke.after")
    await one.publish("smoke.after")
    await after.next_msg(PATIENCE_S)
    same(got, [0, 1, 2])
    await one.close()
    return "3 of 10, then no more"


async def durable(server):
    call = lambda *arguments: asyncio.to_thread(server.call, *arguments)
    same((await call("POST", "/smoke.durable/reader"))[0], 200)
    one = await connect(server, "durable")
    numbers = []
    for number in range(5):
        answer = await one.request("smoke.durable", f"kept {number}".encode(), timeout=PATIENCE_S)
        document = json.loads(answer.data)
        same(list(document), ["seq"])
        numbers.append(document["seq"])
    same(numbers, sorted(set(numbers)))
    for number in range(5):
        status, head, body = await call("GET", "/smoke.durable/reader?wait=2s")
        same((status, body), (200, f"kept {number}".encode()))
        same(int(head["pinnace-seq"]), numbers[number])
    same((await call("GET", "/smoke.durable/reader"))[0], 204)
    await one.close()
    return f'publishes answered {{"seq":N}} with N in {numbers}; fetched over HTTP with the same numbers'


CHECKS = [
    publish_and_subscribe,
    headers,
    queue_groups,
    request_and_reply,
    no_responders,
    drain,
    unsubscribe_after,
    durable,
]


async def run(program: Path) -> int:
    failed = 0
    server = Server(program)
    try:
        await server.ready()
        print(f"nats-py {version('nats-py')}, Python {sys.version.split()[0]}")
        for check in CHECKS:
            name = check.__name__.replace("_", " ")
            try:
                print(f"ok      {name}: {await asyncio.wait_for(check(server), 6 * PATIENCE_S)}")
            except Exception as error:  # a failed check must not hide the others
                failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}")
    finally:
        server.close()
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} ok")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Smoke test of the NATS door with nats-py.")
    default = Path(__file__).resolve().parents[2] / "target/release/pinnace"
    parser.add_argument("--pinnace", type=Path, default=default, help="the program under test")
    return asyncio.run(run(parser.parse_args().pinnace.resolve()))


if __name__ == "__main__":
    sys.exit(main())
