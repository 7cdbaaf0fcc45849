"""Smoke test of the NATS door with nats-py.

Usage: smoke.py URL. Prints `ok NAME` for each check; prints `RESTART` when it wants the server killed and started
again on the same address, and reads a line when that is done. What is checked is the same in every language.
"""

import asyncio
import sys

import nats
from nats.errors import NoRespondersError

PATIENCE_S = 20.0


def same(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r}, expected {expected!r}")


async def publish(connection):
    subscription = await connection.subscribe("smoke.py.*")
    sent = [b"", b"hello", bytes(range(256)), b"x" * 500_000]
    for number, payload in enumerate(sent):
        await connection.publish(f"smoke.py.{number}", payload)
    for number, payload in enumerate(sent):
        message = await subscription.next_msg(PATIENCE_S)
        same((message.subject, message.data), (f"smoke.py.{number}", payload))
    await subscription.unsubscribe()


async def request(connection):
    async def answer(message):
        await message.respond(message.data[::-1])

    service = await connection.subscribe("smoke.reverse", cb=answer)
    words = [f"word-{number}".encode() for number in range(50)]
    asked = (connection.request("smoke.reverse", word, timeout=PATIENCE_S) for word in words)
    same([message.data for message in await asyncio.gather(*asked)], [w[::-1] for w in words])
    await service.unsubscribe()


async def no_responders(connection):
    try:
        await connection.request("smoke.nobody", b"", timeout=PATIENCE_S)
    except NoRespondersError:
        return
    raise AssertionError("somebody answered")


async def headers(connection):
    subscription = await connection.subscribe("smoke.headers")
    sent = {"Trace": "abc", "Another": "0; with=signs, and blanks"}
    await connection.publish("smoke.headers", b"body", headers=sent)
    message = await subscription.next_msg(PATIENCE_S)
    same((message.headers, message.data), (sent, b"body"))
    await subscription.unsubscribe()


async def queue_group(connection):
    counts = [0, 0, 0]
    total = 300
    done = asyncio.Event()

    def member(place):
        async def take(_message):
            counts[place] += 1
            if sum(counts) == total:
                done.set()

        return take

    members = [await connection.subscribe("smoke.work", "workers", member(n)) for n in range(3)]
    for _ in range(total):
        await connection.publish("smoke.work", b"x")
    await asyncio.wait_for(done.wait(), PATIENCE_S)
    await connection.flush()
    same((sum(counts), min(counts) > 0), (total, True))
    for one in members:
        await one.unsubscribe()


async def reconnect(connection, back):
    subscription = await connection.subscribe("smoke.again")
    await connection.flush()
    print("RESTART", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.wait_for(back.wait(), PATIENCE_S)
    await connection.publish("smoke.again", b"back")
    same((await subscription.next_msg(PATIENCE_S)).data, b"back")


async def drain(connection, url):
    other = await nats.connect(url)
    got = []

    async def take(message):
        await asyncio.sleep(0)
        got.append(int(message.data))

    await connection.subscribe("smoke.drain", cb=take)
    await connection.flush()
    for number in range(200):
        await other.publish("smoke.drain", str(number).encode())
    await other.flush()
    await connection.drain()
    same((got, connection.is_closed), (list(range(200)), True))
    await other.close()


async def main(url):
    back = asyncio.Event()

    async def returned():
        back.set()

    async def ignore(_error):
        pass

    connection = await nats.connect(
        url,
        name="smoke.py",
        reconnected_cb=returned,
        error_cb=ignore,
        reconnect_time_wait=0.05,
        max_reconnect_attempts=-1,
    )
    print("ok connect", flush=True)
    for check in (publish, request, no_responders, headers, queue_group):
        await check(connection)
        print("ok", check.__name__, flush=True)
    await reconnect(connection, back)
    print("ok reconnect", flush=True)
    await drain(connection, url)
    print("ok drain", flush=True)


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 5 * PATIENCE_S))
