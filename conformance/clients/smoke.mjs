// Smoke test of the NATS door with @nats-io/transport-node.
//
// Usage: smoke.mjs URL. Prints `ok NAME` for each check; prints `RESTART` when it wants the server killed and started
// again on the same address, and reads a line when that is done. What is checked is the same in every language.

import assert from "node:assert/strict";
import { createInterface } from "node:readline/promises";
import { connect, headers as newHeaders } from "@nats-io/transport-node";

const PATIENCE_MS = 20_000;
const url = process.argv[2];
const lines = createInterface({ input: process.stdin });

const ok = (name) => console.log(`ok ${name}`);

async function next(subscription) {
  const { value } = await subscription[Symbol.asyncIterator]().next();
  return value;
}

async function publish(connection) {
  const subscription = connection.subscribe("smoke.js.*");
  const sent = ["", "hello", "ä\r\nPING\r\n", "x".repeat(500_000)];
  sent.forEach((payload, number) => connection.publish(`smoke.js.${number}`, payload));
  const iterator = subscription[Symbol.asyncIterator]();
  for (const [number, payload] of sent.entries()) {
    const { value } = await iterator.next();
    assert.equal(value.subject, `smoke.js.${number}`);
    assert.equal(value.string(), payload);
  }
  subscription.unsubscribe();
}

async function request(connection) {
  const reverse = (text) => [...text].reverse().join("");
  const service = connection.subscribe("smoke.reverse", {
    callback: (_error, message) => message.respond(reverse(message.string())),
  });
  const words = Array.from({ length: 50 }, (_, number) => `word-${number}`);
  const answers = await Promise.all(
    words.map((word) => connection.request("smoke.reverse", word, { timeout: PATIENCE_MS })),
  );
  assert.deepEqual(answers.map((answer) => answer.string()), words.map(reverse));
  service.unsubscribe();
}

async function noResponders(connection) {
  const asked = connection.request("smoke.nobody", "", { timeout: PATIENCE_MS });
  await assert.rejects(asked, (error) => /no responders/i.test(error.message));
}

async function headers(connection) {
  const subscription = connection.subscribe("smoke.headers");
  const sent = newHeaders();
  sent.append("Trace", "abc");
  sent.append("Trace", "def");
  connection.publish("smoke.headers", "body", { headers: sent });
  const message = await next(subscription);
  assert.deepEqual(message.headers.values("Trace"), ["abc", "def"]);
  assert.equal(message.string(), "body");
}

async function queueGroup(connection) {
  const counts = [0, 0, 0];
  const total = 300;
  const { promise, resolve } = Promise.withResolvers
    ? Promise.withResolvers()
    : (() => {
        const made = {};
        made.promise = new Promise((resolve) => (made.resolve = resolve));
        return made;
      })();
  const sum = () => counts.reduce((a, b) => a + b);
  const members = counts.map((_, place) =>
    connection.subscribe("smoke.work", {
      queue: "workers",
      callback: () => {
        counts[place] += 1;
        if (sum() === total) resolve();
      },
    }),
  );
  for (let number = 0; number < total; number += 1) connection.publish("smoke.work", "x");
  await promise;
  await connection.flush();
  assert.equal(sum(), total);
  assert.ok(Math.min(...counts) > 0, `${counts}`);
  members.forEach((member) => member.unsubscribe());
}

async function reconnect(connection) {
  const subscription = connection.subscribe("smoke.again");
  await connection.flush();
  const back = (async () => {
    for await (const status of connection.status()) if (status.type === "reconnect") return;
  })();
  const told = lines[Symbol.asyncIterator]().next();
  console.log("RESTART");
  await told;
  await back;
  connection.publish("smoke.again", "back");
  assert.equal((await next(subscription)).string(), "back");
}

async function drain(connection) {
  const other = await connect({ servers: url });
  const got = [];
  connection.subscribe("smoke.drain", {
    callback: (_error, message) => got.push(Number(message.string())),
  });
  await connection.flush();
  for (let number = 0; number < 200; number += 1) other.publish("smoke.drain", `${number}`);
  await other.flush();
  await connection.drain();
  assert.deepEqual(got, Array.from({ length: 200 }, (_, number) => number));
  assert.ok(connection.isClosed());
  await other.close();
}

const overdue = setTimeout(() => {
  console.error("took too long");
  process.exit(1);
}, 5 * PATIENCE_MS);
const connection = await connect({
  servers: url,
  name: "smoke.mjs",
  reconnectTimeWait: 50,
  maxReconnectAttempts: -1,
});
ok("connect");
await publish(connection);
ok("publish");
await request(connection);
ok("request");
await noResponders(connection);
ok("no_responders");
await headers(connection);
ok("headers");
await queueGroup(connection);
ok("queue_group");
await reconnect(connection);
ok("reconnect");
await drain(connection);
ok("drain");
lines.close();
clearTimeout(overdue);
