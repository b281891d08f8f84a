import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { ApiProblem } from '../../portal/api-types.ts';
import { CliError } from '../io.ts';
import { type RequestsClient, requestsClient } from './requests-client.ts';

const UNKNOWN_KEY: ApiProblem = { error: { message: 'The key of this token is not known.', code: 'UnknownKey' } };

interface Bed {
  client: RequestsClient;
  /** `METHOD token` of each call, in order. */
  calls: string[];
  said(): string;
  giveUp: AbortController;
}

/** A portal that answers the calls in this order, the last for ever. */
async function portal(
  context: TestContext,
  answers: readonly [number, object][],
  times: { againMs?: number; keyWaitMs?: number } = {},
): Promise<Bed> {
  const calls: string[] = [];
  const server = http.createServer((request, response) => {
    const [status, body] = answers[Math.min(calls.length, answers.length - 1)]!;
    calls.push(`${request.method} ${request.headers.authorization?.slice(7)}`);
    request.resume();
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  let text = '';
  let tokens = 0;
  const giveUp = new AbortController();
  const client = requestsClient({
    server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    caPem: undefined,
    tokens: { token: () => Promise.resolve(`t${(tokens += 1)}`) },
    io: { err: (said) => void (text += said), signal: giveUp.signal },
    againMs: 1,
    ...times,
  });
  return { client, calls, said: () => text, giveUp };
}

const failing = async (work: Promise<unknown>): Promise<CliError> => {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof CliError, String(error));
    return error;
  }
  return assert.fail('it went well');
};
const REQUEST = { namespace: 'payments', connection: 'orders-db', clientKey: 'k' };

test('a token by a key that is not known yet is shown anew until it is known, and stderr says so once', async (context) => {
  const { client, calls, said } = await portal(context, [
    ...Array.from({ length: 7 }, (): [number, object] => [503, UNKNOWN_KEY]),
    [200, { items: [] }],
  ]);
  assert.deepEqual(await client.mine('payments', 'orders-db'), []);
  assert.deepEqual([calls.length, calls[0], calls.at(-1)], [8, 'GET t1', 'GET t8'], 'the token is read anew each time');
  assert.equal(
    said(),
    'The key of this job’s token is not known yet; its issuer is asked for new ones. Waiting up to 90 s.\nThe key is known now.\n',
  );
});

test('a request that was not looked at for its key is made again; one that failed otherwise is not', async (context) => {
  const patient = await portal(context, [
    [503, UNKNOWN_KEY],
    [201, { name: 'job-1' }],
  ]);
  assert.equal((await patient.client.ask(REQUEST)).name, 'job-1');
  assert.equal(patient.calls.length, 2);
  const unsure = await portal(context, [[503, { error: { message: 'Sallyport can not store the request now.' } }]]);
  const failure = await failing(unsure.client.ask(REQUEST));
  assert.deepEqual([failure.exitCode, unsure.calls.length], [69, 1], 'it may have been made');
});

test('INV-11: the wait for a key ends, with 69 and what to do; giving up ends it at once', async (context) => {
  const bed = await portal(context, [[503, UNKNOWN_KEY]], { keyWaitMs: 50, againMs: 5 });
  const failure = await failing(bed.client.mine('payments', 'orders-db'));
  assert.equal(failure.exitCode, 69);
  assert.match(failure.message, /still not known after 0 s; nothing was done/);
  assert.match(failure.hint ?? '', /^Run the job again\..*conditions of the IdentityProvider/);
  const long = await portal(context, [[503, UNKNOWN_KEY]], { againMs: 600_000 });
  const ended = failing(long.client.mine('payments', 'orders-db'));
  setTimeout(() => long.giveUp.abort(), 20);
  assert.equal((await ended).exitCode, 130);
});

test('a portal that restarts is asked five times, a refusal once', async (context) => {
  const away = await portal(context, [[502, {}]]);
  const failure = await failing(away.client.look('payments', 'job-1'));
  assert.deepEqual([failure.exitCode, away.calls.length, away.said()], [69, 5, '']);
  const refused = await portal(context, [[401, { error: { message: 'This is no token.', hint: 'Ask for one.' } }]]);
  const no = await failing(refused.client.look('payments', 'job-1'));
  assert.deepEqual(
    [no.exitCode, no.message, no.hint, refused.calls.length],
    [77, 'This is no token.', 'Ask for one.', 1],
  );
});
