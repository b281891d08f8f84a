import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../test/support/any-text.ts';
import { generateClientKey } from '../identity/keys.ts';
import { issueTicket } from '../identity/tickets.ts';
import { manualClock } from '../system/manual-clock.ts';
import { systemRandom } from '../system/random.ts';
import { startTelemetry } from './http.ts';
import { createLog } from './log.ts';
import { createMetrics } from './metrics.ts';
import { redact } from './redact.ts';

function capture() {
  const lines: string[] = [];
  const log = createLog({ clock: manualClock(), level: 'debug', write: (line) => void lines.push(line) });
  return { log, lines };
}

test('a line is one JSON object with time, level, message and fields', () => {
  const { log, lines } = capture();
  log.with({ session: 's-1' })('warn', 'something', { count: 2, nested: { a: [1, 'x'] } });
  assert.deepEqual(JSON.parse(lines[0]!), {
    ts: '2026-01-01T00:00:00.000Z',
    level: 'warn',
    message: 'something',
    session: 's-1',
    count: 2,
    nested: { a: [1, 'x'] },
  });
  log('info', 'x', { ts: 'forged', level: 'forged', message: 'forged' });
  assert.deepEqual(JSON.parse(lines[1]!), { ts: '2026-01-01T00:00:00.000Z', level: 'info', message: 'x' });
});

test('lines below the level are dropped', () => {
  const lines: string[] = [];
  const log = createLog({ clock: manualClock(), write: (line) => void lines.push(line) });
  log('debug', 'no');
  log('info', 'yes');
  assert.equal(lines.length, 1);
});

test('INV-05: no secret gets into a log line, by name or by look, however deep', () => {
  const { log, lines } = capture();
  const key = generateClientKey();
  const ticket = issueTicket({
    privateKey: key.privateKey,
    grantUid: 'g',
    connectionUid: 'c',
    nowMs: 0,
    random: systemRandom,
  });
  const pem = key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  const secret = 'correct-horse';
  const error = Object.assign(new Error(`login of ${ticket} failed`, { cause: new Error(`password=${secret}`) }), {
    code: 'EAUTH',
    client: { password: secret },
  });
  const circular: Record<string, unknown> = { password: secret };
  circular['self'] = circular;
  log('error', `connecting to postgres://svc:${secret}@db/orders`, {
    password: secret,
    PGPASSWORD: secret,
    clientSecret: secret,
    authorization: `Bearer ${secret}-token`,
    header: `Authorization: Bearer ${secret}token`,
    credential: { username: 'svc', value: secret },
    nested: [{ deeper: { apiKey: secret, text: `x ${ticket} y`, pem } }],
    error,
    circular,
    bytes: Buffer.from(secret),
    map: new Map([['token', secret]]),
    conninfo: `host=db password='${secret}' user=svc`,
    scram: `SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:${secret}`,
  });
  const line = lines[0]!;
  for (const hidden of [secret, ticket, ticket.split('.')[2]!, 'PRIVATE KEY', 'c3RvcmVk'])
    assert.ok(!line.includes(hidden), line);
  const parsed = JSON.parse(line) as Record<string, unknown>;
  assert.deepEqual((parsed['error'] as { code: string }).code, 'EAUTH');
  assert.equal(parsed['message'], 'connecting to postgres://svc:[redacted]@db/orders');
  assert.equal(parsed['bytes'], '[13 bytes]');
});

test('INV-11: whatever is logged stays one bounded line that a terminal does not act on', () => {
  const { log, lines } = capture();
  fc.assert(
    fc.property(anyText(), fc.anything({ withBigInt: true, withMap: true, withDate: true }), (message, value) => {
      lines.length = 0;
      log('info', message, { value });
      const [line] = lines;
      assert.equal(lines.length, 1);
      return (
        /^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]*\n$/.test(line!) &&
        line!.indexOf('\n') === line!.length - 1
      );
    }),
    { numRuns: 200 },
  );
  lines.length = 0;
  log('info', 'x'.repeat(1e6), {
    many: new Array(1e5).fill('y'.repeat(100)),
    deep: JSON.parse('['.repeat(500) + ']'.repeat(500)),
  });
  assert.ok(lines[0]!.length < 20_000, `${lines[0]!.length}`);
});

test('redacting never throws and never changes its input', () => {
  fc.assert(
    fc.property(fc.object({ withBigInt: true }), (value) => {
      const before = structuredClone(value);
      JSON.stringify(redact(value));
      assert.deepEqual(value, before);
    }),
    { numRuns: 100 },
  );
});

test('metrics tell what happened, and Connections that are gone are not told of', async () => {
  const clock = manualClock();
  const metrics = createMetrics(clock, '1.2.3');
  metrics.sessionStarted('payments/orders-db');
  metrics.sessionStarted('payments/orders-db');
  metrics.sessionEnded('payments/orders-db', 'Revoked');
  metrics.decision('Allow');
  metrics.decision('Allow');
  metrics.decision('Deny', 'RuleDenied');
  metrics.holdOpened();
  metrics.masked(7);
  metrics.latency(0.06);
  metrics.recordLag(3);
  metrics.authFailure('InvalidProof');
  metrics.renewal('Renewed');
  metrics.badShard('Older');
  metrics.bundle('payments/orders-db', 4, clock.now());
  metrics.bundle('payments/gone', 1, undefined);
  metrics.connectionGone('payments/gone');
  clock.advance(12_000);
  const { body, contentType } = await metrics.render();
  assert.match(contentType, /^text\/plain/);
  for (const line of [
    'sallyport_sessions{connection="payments/orders-db"} 1',
    'sallyport_sessions_ended_total{connection="payments/orders-db",reason="Revoked"} 1',
    'sallyport_decisions_total{kind="Allow",code=""} 2',
    'sallyport_decisions_total{kind="Deny",code="RuleDenied"} 1',
    'sallyport_session_renewals_total{outcome="Renewed"} 1',
    'sallyport_holds 1',
    'sallyport_mask_hits_total 7',
    'sallyport_added_latency_seconds_bucket{le="0.00005"} 0',
    'sallyport_added_latency_seconds_bucket{le="0.0001"} 1',
    'sallyport_record_lag_seconds_count 1',
    'sallyport_auth_failures_total{code="InvalidProof"} 1',
    'sallyport_bundle_rejected_total{reason="Older"} 1',
    'sallyport_bundle_generation{connection="payments/orders-db"} 4',
    'sallyport_bundle_age_seconds{connection="payments/orders-db"} 12',
    'sallyport_build_info{version="1.2.3"} 1',
  ]) {
    assert.ok(body.includes(`${line}\n`), `${line}\n--\n${body}`);
  }
  assert.ok(!body.includes('payments/gone'));
});

test('health, readiness and metrics are served; anything else is refused', async (t) => {
  let reasons: string[] = ['payments/orders-db: no heartbeat'];
  const metrics = createMetrics(manualClock(), '1');
  const server = await startTelemetry({ port: 0, metrics, ready: () => ({ ok: reasons.length === 0, reasons }) });
  t.after(() => server.close());
  const get = async (path: string, method = 'GET'): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { method });
    return [response.status, await response.text()];
  };
  assert.deepEqual(await get('/healthz'), [200, 'ok\n']);
  assert.deepEqual(await get('/readyz'), [503, 'payments/orders-db: no heartbeat\n']);
  reasons = [];
  assert.deepEqual(await get('/readyz?x'), [200, 'ready\n']);
  assert.match((await get('/metrics'))[1], /sallyport_build_info/);
  assert.equal((await get('/metrics', 'POST'))[0], 405);
  assert.equal((await get('/../etc/passwd'))[0], 404);
  const big = net.connect(server.port, '127.0.0.1');
  big.on('error', () => {});
  big.resume();
  big.write(`GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}`);
  await new Promise((resolve) => big.once('close', resolve));
});
