// The pages that list: one's own access, what there is to decide, sessions, history.
import type { BrowserSession } from '../browser-sessions.ts';
import type { GrantConcern, HoldConcern } from '../concerns.ts';
import { html, type Markup } from '../html.ts';
import type { Offer } from '../offers.ts';
import { countdown, moment, personOf, span, whatOf } from '../words.ts';
import type { LiveSession } from '../world.ts';
import { command, grantPath, holdPath } from './decide.ts';
import { badge, card, csrfField, list, phaseBadge } from './layout.ts';

const revOf = (object: { metadata: { resourceVersion: string } }): string => object.metadata.resourceVersion;

export function holdCard({ hold, role }: HoldConcern, nowMs: number): Markup {
  const { spec } = hold;
  return card(
    hold.metadata.uid,
    revOf(hold),
    html`<div class="head"><h3><a href="${holdPath(hold)}">${role === 'Own' ? 'Your statement' : `Statement of ${spec.requester.username}`} on ${spec.connectionRef.name}</a></h3>${badge('Held', 'wait')}</div>
<pre class="peek">${spec.command.slice(0, 400)}${spec.command.length > 400 && '…'}</pre>
<p class="meta">${spec.reason} · ${countdown(spec.until, nowMs)} left · ${hold.metadata.namespace}</p>`,
    'urgent',
  );
}

export function grantCard(concern: GrantConcern, prefix: string): Markup {
  const { grant, role } = concern;
  const { status, spec } = grant;
  const scheduled = status?.phase === 'Pending' && status.expiresAt !== undefined;
  const when =
    status?.phase === 'Active'
      ? html`until ${moment(status.expiresAt)}`
      : scheduled
        ? html`begins ${moment(status.notBefore)}`
        : html`for ${spec.duration ?? 'the time the policy gives'}`;
  return card(
    grant.metadata.uid,
    revOf(grant),
    html`<div class="head"><h3><a href="${grantPath(grant)}">${role === 'Approver' && html`${personOf(grant)}: `}${whatOf(grant)}</a></h3>${phaseBadge(status?.phase, scheduled)}</div>
${spec.reason !== undefined && html`<p><q>${spec.reason}</q></p>`}
<p class="meta">${when} · ${grant.metadata.namespace}${status?.waitingFor !== undefined && html` · needs ${status.waitingFor}`}${concern.signOffDue && html` · ${badge('Sign-off due', 'bad')}`}</p>
${role === 'Own' && status?.phase === 'Active' && command(status.connectCommand ?? `${prefix} connect ${spec.connectionRef.name}`)}`,
  );
}

export function accessPage(view: {
  holds: readonly HoldConcern[];
  grants: readonly GrantConcern[];
  offers: readonly Offer[];
  prefix: string;
  nowMs: number;
}): Markup {
  return html`<h1>My access</h1>
<section aria-label="My statements that wait">${list(
    'own-holds',
    view.holds.map((each) => holdCard(each, view.nowMs)),
    '',
  )}</section>
<section aria-labelledby="h-mine"><h2 id="h-mine">Grants and requests</h2>
${list(
  'own-grants',
  view.grants.map((each) => grantCard(each, view.prefix)),
  'You have no access and have asked for none. Ask for what you need below.',
)}</section>
<section aria-labelledby="h-offers"><h2 id="h-offers">Ask for access</h2>
${
  view.offers.length === 0
    ? html`<p class="empty">No policy offers you anything. Ask the owners of what you need for one that names you or a group of yours.</p>`
    : html`<ul class="rows">${view.offers.map(
        ({ connection, policies }) =>
          html`<li><a href="/request/${connection.metadata.namespace}/${connection.metadata.name}"><b>${connection.metadata.name}</b> <span class="meta">${connection.spec.type} · ${connection.metadata.namespace}</span></a><span class="meta">${policies.map((each) => `${each.accounts.join(', ')} up to ${each.longest}`).join('; ')}</span></li>`,
      )}</ul>`
}</section>`;
}

export function pendingPage(view: {
  holds: readonly HoldConcern[];
  requests: readonly GrantConcern[];
  active: readonly GrantConcern[];
  prefix: string;
  nowMs: number;
}): Markup {
  return html`<h1>To decide</h1>
<section aria-labelledby="h-holds"><h2 id="h-holds">Held statements</h2>
<div aria-live="polite">${list(
    'holds',
    view.holds.map((each) => holdCard(each, view.nowMs)),
    'No statement waits for you. One that does appears here by itself.',
  )}</div></section>
<section aria-labelledby="h-requests"><h2 id="h-requests">Requests</h2>
<div aria-live="polite">${list(
    'requests',
    view.requests.map((each) => grantCard(each, view.prefix)),
    'No request waits for you.',
  )}</div></section>
<section aria-labelledby="h-active"><h2 id="h-active">In force</h2>
${list(
  'active',
  view.active.map((each) => grantCard(each, view.prefix)),
  'No access that you answer for is in force.',
)}</section>`;
}

export function sessionsPage(sessions: readonly LiveSession[], nowMs: number): Markup {
  return html`<h1>My sessions</h1>
${list(
  'sessions',
  sessions.map((each) =>
    card(
      each.id,
      `${each.state} ${each.holds.join()}`,
      html`<div class="head"><h3>${each.connection} as ${each.account}</h3>${each.holds.length > 0 ? badge('Held', 'wait') : badge(each.state, each.state === 'Live' ? 'good' : 'plain')}</div>
<p class="meta">${span(nowMs - Date.parse(each.startedAt))} · from ${each.client} · grant ${each.grant.name} · ${each.namespace} · <code>${each.id}</code></p>`,
    ),
  ),
  'You have no open session.',
)}`;
}

export function historyPage(own: readonly GrantConcern[], decided: readonly GrantConcern[]): Markup {
  const rows = (items: readonly GrantConcern[], empty: string): Markup =>
    items.length === 0
      ? html`<p class="empty">${empty}</p>`
      : html`<ul class="rows">${items.map(
          ({ grant }) =>
            html`<li><a href="${grantPath(grant)}"><b>${whatOf(grant)}</b> <span class="meta">${personOf(grant)}</span></a><span class="meta">${phaseBadge(grant.status?.phase)} ${moment(grant.status?.finishedAt ?? grant.metadata.creationTimestamp)}</span></li>`,
        )}</ul>`;
  return html`<h1>History</h1>
<section aria-labelledby="h-own"><h2 id="h-own">My grants</h2>${rows(own, 'Nothing of yours is over yet.')}</section>
<section aria-labelledby="h-decided"><h2 id="h-decided">Grants I answer for</h2>${rows(decided, 'Nothing that you answer for is over yet.')}</section>`;
}

export function requestPage(
  session: BrowserSession,
  offer: Offer,
  given: { values: ReadonlyMap<string, string>; problem?: string | undefined },
): Markup {
  const { connection, policies } = offer;
  const { namespace = '', name } = connection.metadata;
  const accounts = [...new Set(policies.flatMap((each) => each.accounts))];
  const value = (field: string): string => given.values.get(field) ?? '';
  const chosen = (field: string, each: string): Markup | false => value(field) === each && html` selected`;
  return html`<article class="sheet"><p class="crumb"><a href="/">My access</a></p>
<h1>Ask for ${name}</h1>
${given.problem !== undefined && html`<p class="note bad" role="alert">${given.problem}</p>`}
<form class="ask" method="post" action="/request/${namespace}/${name}">
${csrfField(session)}
<div><label for="account">Account</label>
<select id="account" name="account">${accounts.map((each) => html`<option${chosen('account', each)}>${each}</option>`)}</select></div>
${
  policies.length > 1 &&
  html`<div><label for="policy">Policy</label>
<select id="policy" name="policy">${policies.map((each) => html`<option value="${each.name}"${chosen('policy', each.name)}>${each.name} (${each.accounts.join(', ')}; up to ${each.longest})</option>`)}</select></div>`
}
<div><label for="duration">For how long</label>
<input id="duration" name="duration" value="${value('duration') || '1h'}" pattern="([0-9]{1,5}(h|m|s))+" required aria-describedby="duration-hint" autocomplete="off">
<p id="duration-hint" class="hint">For example 30m or 1h30m; at most ${policies.map((each) => each.longest).join(' or ')}.</p></div>
<div><label for="reason">Why</label>
<textarea id="reason" name="reason" rows="3" maxlength="1024" aria-describedby="reason-hint">${value('reason')}</textarea>
<p id="reason-hint" class="hint">Approvers and auditors read it.</p></div>
<div><label for="ticket">Ticket <span class="optional">(optional)</span></label>
<input id="ticket" name="ticket" value="${value('ticket')}" maxlength="128" autocomplete="off"></div>
<div><label for="clientKey">Public key <span class="optional">(optional)</span></label>
<input id="clientKey" name="clientKey" value="${value('clientKey')}" pattern="[A-Za-z0-9_\\-]{43}" maxlength="43" autocomplete="off" spellcheck="false" aria-describedby="key-hint">
<p id="key-hint" class="hint">Leave it empty to log in with your identity provider’s token.</p></div>
${
  policies.some((each) => each.breakGlass) &&
  html`<div><label class="check"><input type="checkbox" name="breakGlass" value="yes" aria-describedby="glass-hint"${value('breakGlass') === 'yes' && html` checked`}> Emergency: skip the approvals</label>
<p id="glass-hint" class="hint">Loud and short; needs a reason, and somebody will review it.</p></div>`
}
<p class="aside">${policies.map((each) => (each.steps.length === 0 ? `${each.name}: nobody needs to approve.` : `${each.name}: needs ${each.steps.join(', then ')}.`)).join(' ')}</p>
<p><button class="primary">Ask for access</button></p>
</form></article>`;
}
