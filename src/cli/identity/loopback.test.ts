import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoopbackTimeout, openLoopback } from './loopback.ts';

const never = (): AbortSignal => new AbortController().signal;

test('one request is answered, the one with our state; what it is shown holds nothing of it', async () => {
  const loopback = await openLoopback('right-state', never());
  const url = (query: string, path = '/callback'): string => `${new URL(loopback.redirectUri).origin}${path}?${query}`;
  assert.match(loopback.redirectUri, /^http:\/\/127\.0\.0\.1:\d+\/callback$/);
  assert.equal((await fetch(url('state=wrong&code=x'))).status, 404);
  assert.equal((await fetch(url('code=x'))).status, 404);
  assert.equal((await fetch(url('state=right-state&code=x', '/other'))).status, 404);
  assert.equal((await fetch(url('state=right-state&code=x'), { method: 'POST' })).status, 404);
  const shown = fetch(url('state=right-state&code=the-code'));
  const answer = await loopback.answer;
  assert.equal(answer.url.searchParams.get('code'), 'the-code');
  void answer.tell('Done');
  const page = await shown;
  const text = await page.text();
  assert.equal(page.status, 200);
  assert.doesNotMatch(text, /the-code|right-state|<script/);
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'.*frame-ancestors 'none'/);
  assert.equal(page.headers.get('referrer-policy'), 'no-referrer');
  await assert.rejects(fetch(url('state=right-state&code=x')));
  loopback.close();
});

test('at the deadline, and when the person gives up, the listener is gone', async () => {
  const late = await openLoopback('s', never(), 20);
  await assert.rejects(late.answer, LoopbackTimeout);
  await assert.rejects(fetch(late.redirectUri));
  const stop = new AbortController();
  const given = await openLoopback('s', stop.signal);
  stop.abort();
  await assert.rejects(given.answer, /Given up/);
  await assert.rejects(fetch(given.redirectUri));
});
