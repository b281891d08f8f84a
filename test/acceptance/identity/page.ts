// The approval page in a real Chromium: people's way through it, and what attackers would try.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Page } from 'playwright-core';
import type { AccessApproval, AccessGrant } from '../../../src/api/grant.ts';
import { API_GROUP_VERSION } from '../../../src/api/group.ts';
import type { CommandHold } from '../../../src/api/hold.ts';
import { testCertificates } from '../../support/certificates.ts';
import { type Chromium, startChromium } from '../../support/chromium.ts';
import { type PortalBed, startPortalBed } from '../../support/portal-bed.ts';
import type { CriteriaGroup } from '../criterion.ts';

let bed: PortalBed;
let chromium: Chromium;

async function request(spec: Record<string, unknown> = {}, user = 'alice'): Promise<AccessGrant> {
  return bed.create<AccessGrant>(
    { username: `corp:${user}`, uid: `${bed.idp.issuer} ${user}`, groups: ['corp:app-team'], aliases: [] },
    {
      apiVersion: API_GROUP_VERSION,
      kind: 'AccessGrant',
      metadata: { name: 'orders-db-', namespace: 'payments' },
      spec: { connectionRef: { name: 'orders-db' }, duration: '1h', reason: 'INC-1234: refunds are stuck', ...spec },
    },
  );
}

const phaseOf = async (grant: AccessGrant): Promise<string | undefined> =>
  (await bed.store.get<AccessGrant>({ kind: 'AccessGrant', namespace: 'payments', name: grant.metadata.name }))?.status
    ?.phase;

interface Desk {
  page: Page;
  console: string[];
  close(): Promise<void>;
}

/** A window in which somebody has logged in as people do. */
async function desk(user: string, options: Parameters<Chromium['window']>[0] = {}): Promise<Desk> {
  const { context, page, console } = await chromium.window(options);
  await page.goto(`${bed.origin}/`);
  await page.getByRole('link', { name: 'Log in' }).click();
  await page.getByLabel('Name').fill(user);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'My access' }).waitFor();
  // The first answer, to somebody who is not logged in, is a 401, and Chromium says so; the provider's pages have their own.
  const said = console.filter((line) => line.includes(bed.origin) && !/status of 401/.test(line));
  console.splice(0, console.length, ...said);
  return { page, console, close: () => context.close() };
}

async function approves(): Promise<string> {
  const grant = await request();
  const started = Date.now();
  const { page, console, close } = await desk('bob');
  try {
    await page.getByRole('link', { name: 'To decide' }).click();
    await page.locator(`a[href="/grants/payments/${grant.metadata.name}"]`).click();
    await page.getByLabel('Reason').fill('go ahead');
    await page.getByRole('button', { name: 'Approve' }).click();
    await page.getByText('Approved.').waitFor();
    assert.equal(await phaseOf(grant), 'Active');
    const { items } = await bed.store.list<AccessApproval>('AccessApproval');
    const stamp = items.find((each) => each.spec.targetRef.uid === grant.metadata.uid)?.spec.approver;
    assert.deepEqual([stamp?.via, stamp?.username], ['Portal', 'corp:bob']);
    assert.deepEqual(console, []);
    return `login to Active in ${Date.now() - started} ms, stamped Portal corp:bob`;
  } finally {
    await close();
  }
}

async function denies(): Promise<string> {
  const grant = await request();
  const { page, console, close } = await desk('bob');
  try {
    await page.goto(`${bed.origin}/grants/payments/${grant.metadata.name}`);
    await page.getByLabel('Reason').fill('not tonight');
    await page.getByRole('button', { name: 'Deny' }).click();
    await page.getByText('Denied.', { exact: true }).waitFor();
    assert.equal(await phaseOf(grant), 'Denied');
    assert.deepEqual(console, []);
    return 'Denied, with its reason';
  } finally {
    await close();
  }
}

async function holdAppears(): Promise<string> {
  const { page, console, close } = await desk('bob');
  try {
    await page.goto(`${bed.origin}/pending`);
    await page.evaluate('globalThis.untouched = true');
    await page.waitForTimeout(300);
    const started = Date.now();
    const hold = await bed.hold({ command: 'update orders set total = 0' });
    await page.getByText('update orders set total = 0').waitFor();
    const took = Date.now() - started;
    assert.equal(await page.evaluate('globalThis.untouched'), true, 'the page was reloaded');
    await page.locator(`a[href="/holds/payments/${hold.metadata.name}"]`).click();
    await page.getByRole('button', { name: 'Approve' }).click();
    await page.getByText('Approved.').waitFor();
    const key = { kind: 'CommandHold', namespace: 'payments', name: hold.metadata.name } as const;
    assert.equal((await bed.store.get<CommandHold>(key))?.status?.phase, 'Approved');
    assert.deepEqual(console, []);
    return `seen after ${took} ms without a reload, then released`;
  } finally {
    await close();
  }
}

/** Runs in the page. */
const FOCUS = `(() => {
  const element = document.activeElement;
  const text = [element.tagName, element.id, element.textContent.trim(), element.getAttribute('href')].join(' ');
  return { text, ring: getComputedStyle(element).outlineStyle };
})()`;

/** Tabs until what has the focus fits. */
async function tabTo(page: Page, what: RegExp): Promise<void> {
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press('Tab');
    const found = await page.evaluate<{ text: string; ring: string }>(FOCUS);
    if (!what.test(found.text)) continue;
    assert.notEqual(found.ring, 'none', `no focus is seen on ${found.text}`);
    return;
  }
  throw new Error(`no Tab leads to ${what}`);
}

async function keyboardOnly(): Promise<string> {
  const grant = await request();
  const { context, page, console } = await chromium.window();
  try {
    await page.goto(`${bed.origin}/`);
    await tabTo(page, /^A .*Log in/);
    await page.keyboard.press('Enter');
    await page.getByLabel('Name').waitFor();
    await page.keyboard.type('bob');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'My access' }).waitFor();
    await page.keyboard.press('Tab');
    assert.match(await page.evaluate<string>('document.activeElement.textContent'), /Skip to content/);
    await tabTo(page, /^A .*To decide/);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Requests' }).waitFor();
    await tabTo(page, new RegExp(grant.metadata.name));
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Approve' }).waitFor();
    await tabTo(page, /^TEXTAREA reason/);
    await page.keyboard.type('by keyboard');
    await tabTo(page, /^BUTTON .*Approve/);
    await page.keyboard.press('Space');
    await page.getByText('Approved.').waitFor();
    assert.equal(await phaseOf(grant), 'Active');
    assert.deepEqual(
      console.filter((line) => line.includes(bed.origin) && !/status of 401/.test(line)),
      [],
    );
    return 'login to approval by Tab, Enter and Space, each stop with a focus ring';
  } finally {
    await context.close();
  }
}

const PATHS = ['/', '/pending', '/sessions', '/history', '/request/payments/orders-db'];

/** What a screen reader needs and what can be told by looking: names, labels, headings, contrast. */
async function labelled(): Promise<string> {
  const grant = await request();
  const hold = await bed.hold({});
  let controls = 0;
  let texts = 0;
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page, close } = await desk('bob', { colorScheme });
    try {
      bed.idp.setUser('bob', { groups: ['dba', 'app-team'] });
      const own = await desk('bob', { colorScheme });
      for (const path of [
        ...PATHS,
        `/grants/payments/${grant.metadata.name}`,
        `/holds/payments/${hold.metadata.name}`,
      ]) {
        await own.page.goto(bed.origin + path);
        const seen = await own.page.evaluate<{ problems: string[]; controls: number; texts: number }>(LOOK);
        assert.deepEqual(seen.problems, [], `${path} (${colorScheme})`);
        controls += seen.controls;
        texts += seen.texts;
      }
      await own.close();
      assert.ok(page);
    } finally {
      bed.idp.setUser('bob', { groups: ['dba', 'staff'] });
      await close();
    }
  }
  return `${controls} controls named, ${texts} texts with a contrast of 4.5 or more, light and dark`;
}

/** Runs in the page. */
const LOOK = `(() => {
  const problems = [];
  const shown = (element) => element.getClientRects().length > 0 && getComputedStyle(element).visibility !== 'hidden';
  if (document.documentElement.lang !== 'en') problems.push('no language');
  if (document.querySelectorAll('h1').length !== 1) problems.push('not one h1');
  let level = 1;
  for (const heading of document.querySelectorAll('h1,h2,h3,h4')) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) problems.push('heading skips: ' + heading.textContent);
    level = next;
  }
  const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
  if (new Set(ids).size !== ids.length) problems.push('an id twice');
  const controls = [...document.querySelectorAll('a[href],button,input:not([type=hidden]),select,textarea')].filter(shown);
  for (const control of controls) {
    const name = control.getAttribute('aria-label') || control.textContent.trim() || [...(control.labels ?? [])].map((each) => each.textContent.trim()).join('');
    if (!name) problems.push('no name: ' + control.outerHTML.slice(0, 120));
    if (control.matches('input,select,textarea') && !control.labels?.length) problems.push('no label: ' + control.outerHTML.slice(0, 120));
    const box = control.getBoundingClientRect();
    if (control.matches('button') && (box.height < 24 || box.width < 24)) problems.push('small: ' + control.textContent);
  }
  for (const each of document.querySelectorAll('[aria-describedby],[aria-labelledby]'))
    for (const id of ((each.getAttribute('aria-describedby') ?? '') + ' ' + (each.getAttribute('aria-labelledby') ?? '')).trim().split(/ +/))
      if (!document.getElementById(id)) problems.push('refers to no ' + id);
  for (const image of document.images) if (!image.hasAttribute('alt')) problems.push('no alt');
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const f = (v) => { const s = v / 255; return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !shown(element) || element.closest('.unseen,.skip,noscript,script')) continue;
    texts += 1;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) problems.push(ratio.toFixed(2) + ': ' + walker.currentNode.data.trim().slice(0, 60));
  }
  return { problems, controls: controls.length, texts };
})()`;

async function narrow(): Promise<string> {
  const long = 'x'.repeat(300);
  const grant = await request({ reason: `${long} and more`, ticket: 'T'.repeat(128) });
  const hold = await bed.hold({ command: `select '${'y'.repeat(600)}'` });
  bed.idp.setUser('bob', { groups: ['dba', 'app-team'] });
  const { page, console, close } = await desk('bob', { viewport: { width: 320, height: 640 } });
  try {
    let widest = 0;
    for (const path of [...PATHS, `/grants/payments/${grant.metadata.name}`, `/holds/payments/${hold.metadata.name}`]) {
      await page.goto(bed.origin + path);
      const width = await page.evaluate<number>('document.documentElement.scrollWidth');
      widest = Math.max(widest, width);
      assert.ok(width <= 320, `${path} is ${width} px wide`);
      await shot(page, `320${path.replaceAll('/', '_').slice(0, 24)}`);
    }
    await page.goto(`${bed.origin}/grants/payments/${grant.metadata.name}`);
    await page.getByRole('button', { name: 'Deny' }).click();
    await page.getByText('Denied.', { exact: true }).waitFor();
    assert.deepEqual(console, []);
    return `${PATHS.length + 2} pages, widest ${widest} px, decided there`;
  } finally {
    bed.idp.setUser('bob', { groups: ['dba', 'staff'] });
    await close();
  }
}

/** For people to look at: a folder named by SCREENSHOTS. */
async function shot(page: Page, name: string): Promise<void> {
  const folder = process.env['SCREENSHOTS'];
  if (folder === undefined) return;
  fs.mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
}

async function pictures(): Promise<string> {
  const grant = await request({ account: 'writer' });
  const hold = await bed.hold({ summary: 'changes every row of orders' });
  let count = 0;
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const [user, paths] of [
      [
        'bob',
        ['/pending', `/grants/payments/${grant.metadata.name}`, `/holds/payments/${hold.metadata.name}`, '/history'],
      ],
      ['alice', ['/', '/request/payments/orders-db', '/sessions']],
    ] as const) {
      const { page, console, close } = await desk(user, { colorScheme, viewport: { width: 1100, height: 800 } });
      for (const path of paths) {
        await page.goto(bed.origin + path);
        await shot(page, `${colorScheme}-${user}${path.replaceAll('/', '_').slice(0, 24)}`);
        count += 1;
      }
      assert.deepEqual(console, []);
      await close();
    }
  }
  return `${count} pages without a word on the console`;
}

const SCRIPT = `"><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;

async function injection(): Promise<string> {
  const grant = await request({ reason: SCRIPT, ticket: SCRIPT.slice(0, 120) });
  const hold = await bed.hold({
    command: SCRIPT,
    reason: SCRIPT,
    summary: SCRIPT,
    requester: { username: SCRIPT },
    rules: [{ policy: SCRIPT, rule: SCRIPT }],
    sessionId: SCRIPT.slice(0, 200),
  });
  bed.liveSessions.push({
    id: SCRIPT,
    namespace: 'payments',
    connection: SCRIPT,
    grant: { name: SCRIPT, uid: grant.metadata.uid },
    username: SCRIPT,
    account: SCRIPT,
    client: SCRIPT,
    startedAt: new Date().toISOString(),
    state: SCRIPT,
    holds: [SCRIPT],
  });
  let pages = 0;
  try {
    for (const [user, paths] of [
      ['bob', ['/pending', `/grants/payments/${grant.metadata.name}`, `/holds/payments/${hold.metadata.name}`]],
      ['alice', ['/', '/sessions', `/grants/payments/${grant.metadata.name}`]],
    ] as const) {
      const { page, close } = await desk(user);
      for (const path of [...paths, `/${encodeURIComponent(SCRIPT)}`, `/login?return=${encodeURIComponent(SCRIPT)}`]) {
        await page.goto(bed.origin + path);
        await page.waitForTimeout(50);
        assert.notEqual(await page.title(), 'owned', path);
        assert.equal(await page.locator('main img, main script, header script').count(), 0, path);
        pages += 1;
      }
      await close();
    }
    // Were markup ever to get in, no script of it would run: the page's own policy is tried as well.
    const { page, console, close } = await desk('bob');
    await page.evaluate(`(() => {
      const script = document.createElement('script');
      script.textContent = "document.title = 'owned'";
      document.body.append(script);
      document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="document.title=1"><a href="javascript:1">x</a>');
    })()`);
    await page.waitForTimeout(200);
    assert.notEqual(await page.title(), 'owned');
    assert.ok(
      console.some((line) => /Content Security Policy/.test(line)),
      'the policy was not asked',
    );
    await close();
    return `${pages} pages with markup in every field: none of it became markup, and inline script does not run`;
  } finally {
    bed.liveSessions.length = 0;
  }
}

/** Somebody else's site, in the same browser. */
async function elsewhere(html: (origin: string) => string): Promise<{ url: string; stop(): Promise<void> }> {
  const { server: material } = await testCertificates(['127.0.0.1'], 'Evil CA');
  const server = https.createServer({ key: material.key, cert: material.cert }, (_request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(html(bed.origin));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function forgery(): Promise<string> {
  const grant = await request();
  const { specHash } = await import('../../../src/api/canonical.ts');
  const fields = {
    kind: 'AccessGrant',
    namespace: 'payments',
    name: grant.metadata.name,
    uid: grant.metadata.uid,
    specHash: specHash(grant.spec),
    decision: 'Approve',
    csrf: 'A'.repeat(43),
  };
  const evil = await elsewhere(
    (origin) =>
      `<form method="post" action="${origin}/decide">${Object.entries(fields)
        .map(([name, value]) => `<input name="${name}" value="${value}">`)
        .join('')}</form><script>document.forms[0].submit()</script>`,
  );
  const { page, close } = await desk('bob');
  try {
    await page.goto(evil.url);
    await page.waitForURL(`${bed.origin}/decide`);
    assert.match(await page.content(), /Refused|not logged in/);
    assert.equal(await phaseOf(grant), 'Pending');
    // A form of the very site, but without the session's own token.
    await page.goto(`${bed.origin}/grants/payments/${grant.metadata.name}`);
    await page.evaluate(`document.querySelector('.decide input[name=csrf]').value = '${'B'.repeat(43)}'`);
    await page.getByRole('button', { name: 'Approve' }).click();
    await page.getByText('out of date').waitFor();
    assert.equal(await phaseOf(grant), 'Pending');
    return 'a form of another site and one with another token: both refused, nothing decided';
  } finally {
    await close();
    await evil.stop();
  }
}

async function framing(): Promise<string> {
  const evil = await elsewhere((origin) => `<iframe src="${origin}/pending" width="800" height="600"></iframe>`);
  const { page, close } = await desk('bob');
  try {
    await page.goto(evil.url);
    await page.waitForTimeout(500);
    const frame = page.frames().find((each) => each !== page.mainFrame());
    const text = await frame?.evaluate<string>('document.body?.innerText ?? ""').catch(() => '');
    assert.ok(!(text ?? '').includes('To decide'), 'the page was shown in a frame');
    return 'no frame of another site shows the page';
  } finally {
    await close();
    await evil.stop();
  }
}

async function openRedirect(): Promise<string> {
  const targets = [
    'https://127.0.0.1:1/',
    '//127.0.0.1:1/',
    '/\\127.0.0.1:1/',
    '/%09/127.0.0.1:1/',
    '\t//127.0.0.1:1',
    '/..//127.0.0.1:1/',
    'javascript:alert(1)',
    '/\n/127.0.0.1:1',
  ];
  for (const target of targets) {
    const { context, page } = await chromium.window();
    await page.goto(`${bed.origin}/login?return=${encodeURIComponent(target)}`);
    await page.getByLabel('Name').fill('bob');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.waitForURL((url) => url.origin !== new URL(bed.idp.issuer).origin);
    assert.equal(new URL(page.url()).origin, bed.origin, target);
    await context.close();
  }
  return `${targets.length} targets elsewhere: each login ended on this site`;
}

async function fixation(): Promise<string> {
  // An attacker's own number, planted in the victim's browser.
  const attacker = await chromium.window();
  await attacker.page.goto(`${bed.origin}/login?return=/`);
  const [planted] = (await attacker.context.cookies(bed.origin)).filter((each) => each.name === '__Host-sallyport');
  assert.ok(planted);
  const victim = await chromium.window();
  await victim.context.addCookies([
    { name: planted.name, value: planted.value, url: bed.origin, secure: true, httpOnly: true },
  ]);
  await victim.page.goto(`${bed.origin}/login?return=/`);
  await victim.page.getByLabel('Name').fill('bob');
  await victim.page.getByRole('button', { name: 'Log in' }).click();
  await victim.page.getByRole('heading', { name: 'My access' }).waitFor();
  const [fresh] = (await victim.context.cookies(bed.origin)).filter((each) => each.name === '__Host-sallyport');
  assert.notEqual(fresh?.value, planted.value);
  assert.deepEqual([fresh?.httpOnly, fresh?.secure, fresh?.sameSite, fresh?.path], [true, true, 'Lax', '/']);
  await attacker.page.goto(`${bed.origin}/pending`);
  await attacker.page.getByRole('link', { name: 'Log in' }).waitFor();
  // Nor can the victim be logged in as the attacker by an answer that was the attacker's.
  const other = await chromium.window();
  await other.page.goto(`${bed.origin}/callback?code=abc&state=${'s'.repeat(43)}`);
  assert.match(await other.page.content(), /not asked for here/);
  for (const { context } of [attacker, victim, other]) await context.close();
  return 'the id changed at login, the planted one opens nothing; an answer of another browser is refused';
}

export const page: CriteriaGroup = {
  name: 'page',
  async start() {
    bed = await startPortalBed();
    chromium = await startChromium();
  },
  criteria: [
    { claim: 'a manager logs in, approves, and the grant is active as that person', check: approves },
    { claim: 'a manager denies with a reason', check: denies },
    { claim: 'a held statement appears without a reload and is released', check: holdAppears },
    { claim: 'everything goes by keyboard alone, and the focus is seen', check: keyboardOnly },
    { claim: 'every control has a name, every text can be read', check: labelled },
    { claim: '320 px are wide enough', check: narrow },
    { claim: 'no page says a word on the console', check: pictures },
    { claim: 'markup in any field stays text', check: injection },
    { claim: 'forms of other sites decide nothing', check: forgery },
    { claim: 'no other site frames the page', check: framing },
    { claim: 'a login leads nowhere but back', check: openRedirect },
    { claim: 'a planted session is worth nothing', check: fixation },
  ],
  async stop() {
    await chromium?.stop();
    await bed?.stop();
  },
};
