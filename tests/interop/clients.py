"""The nats-py client through a leaf: `clients.py URL [nkey SEEDFILE | tls CAFILE | tls-first CAFILE] STEP...` runs the steps in order and
says `ok STEP` for each; the first failure ends it. `stream:D` names the JetStream domain."""

import asyncio
import ssl
import sys

import nats
from nats.errors import NoRespondersError, TimeoutError
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import KeyDeletedError, KeyNotFoundError

# Nothing of all this takes long.
DEADLINE = 10


def same(got, wanted):
    assert got == wanted, f"{got!r} instead of {wanted!r}"


async def pubsub(nc):
    sub = await nc.subscribe("p.*")
    await nc.publish("p.one", b"1")
    await nc.publish("p.two", b"")
    for subject, payload in (("p.one", b"1"), ("p.two", b"")):
        msg = await sub.next_msg(DEADLINE)
        same((msg.subject, msg.data), (subject, payload))
    await sub.unsubscribe()


async def request(nc):
    async def answer(msg):
        await msg.respond(msg.data)

    sub = await nc.subscribe("p.service", cb=answer)
    for n in range(20):
        msg = await nc.request("p.service", b"%d" % n, timeout=DEADLINE)
        same(msg.data, b"%d" % n)
    await sub.unsubscribe()


async def queue(nc):
    got = []

    async def work(msg):
        got.append(int(msg.data))

    subs = [await nc.subscribe("p.work", queue="G", cb=work) for _ in range(3)]
    for n in range(60):
        await nc.publish("p.work", b"%d" % n)
    while len(got) < 60:
        await nc.flush()
    same(sorted(got), list(range(60)))
    for sub in subs:
        await sub.unsubscribe()


async def headers(nc):
    sub = await nc.subscribe("p.headers")
    await nc.publish("p.headers", b"x", headers={"Key": "value"})
    msg = await sub.next_msg(DEADLINE)
    same((msg.headers, msg.data), ({"Key": "value"}, b"x"))


async def no_responders(nc):
    try:
        msg = await nc.request("p.nobody", b"", timeout=DEADLINE)
    except NoRespondersError:
        return
    raise AssertionError(f"an answer: {msg}")


async def hub_echo(nc):
    """Somebody at the hub answers on hub.echo."""
    msg = await nc.request("hub.echo", b"over", timeout=DEADLINE)
    same(msg.data, b"over")


async def stream(nc, domain=None):
    js = nc.jetstream(timeout=DEADLINE, domain=domain)
    await js.add_stream(StreamConfig(name="PS", subjects=["ps.>"]))
    for n in range(1, 6):
        ack = await js.publish(f"ps.{n}", b"%d" % n)
        same((ack.stream, ack.seq), ("PS", n))
    sub = await js.pull_subscribe("ps.>", "D")
    got = []
    for msg in await sub.fetch(5, timeout=DEADLINE):
        got.append((msg.subject, msg.data, msg.metadata.sequence.stream))
        await msg.ack_sync(timeout=DEADLINE)
    same(got, [(f"ps.{n}", b"%d" % n, n) for n in range(1, 6)])
    info = await sub.consumer_info()
    same((info.num_ack_pending, info.ack_floor.stream_seq), (0, 5))
    try:
        await sub.fetch(1, timeout=0.2)
    except TimeoutError:
        pass
    else:
        raise AssertionError("a sixth message")
    push = await js.subscribe("ps.>", ordered_consumer=True)
    for n in range(1, 6):
        same((await push.next_msg(DEADLINE)).subject, f"ps.{n}")
    await push.unsubscribe()
    await js.delete_stream("PS")


async def kv(nc, domain=None):
    js = nc.jetstream(timeout=DEADLINE, domain=domain)
    bucket = await js.create_key_value(bucket="pkv", history=3)
    watch = await bucket.watch("k.*")
    same(await watch.updates(timeout=DEADLINE), None)
    same(await bucket.put("k.a", b"1"), 1)
    same((await bucket.get("k.a")).value, b"1")
    same(await bucket.update("k.a", b"2", last=1), 2)
    same((await bucket.get("k.a")).value, b"2")
    await bucket.delete("k.a")
    try:
        await bucket.get("k.a")
    except (KeyDeletedError, KeyNotFoundError):
        pass
    else:
        raise AssertionError("a deleted key")
    for value in (b"1", b"2", b""):
        entry = await watch.updates(timeout=DEADLINE)
        same((entry.key, entry.value or b""), ("k.a", value))
    await watch.stop()
    await js.delete_key_value("pkv")


STEPS = {
    "pubsub": pubsub,
    "request": request,
    "queue": queue,
    "headers": headers,
    "no_responders": no_responders,
    "hub_echo": hub_echo,
    "stream": stream,
    "kv": kv,
}


async def main(url, steps):
    options = {}
    if steps[:1] == ["nkey"]:
        options["nkeys_seed"] = steps[1]
        steps = steps[2:]
    elif steps[0] in ("tls", "tls-first"):
        options["tls"] = ssl.create_default_context(cafile=steps[1])
        options["tls_handshake_first"] = steps[0] == "tls-first"
        steps = steps[2:]

    async def told(error):
        print(f"the client says: {error!r}", file=sys.stderr)

    nc = await nats.connect(url, error_cb=told, allow_reconnect=False, **options)
    for step in steps:
        name, *domain = step.split(":")
        await asyncio.wait_for(STEPS[name](nc, *domain), 2 * DEADLINE)
        print(f"ok {step}", flush=True)
    await nc.close()


asyncio.run(main(sys.argv[1], sys.argv[2:]))
