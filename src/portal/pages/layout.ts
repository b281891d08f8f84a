// The frame of every page.
import type { BrowserSession, Note } from '../browser-sessions.ts';
import { html, type Insert, type Markup } from '../html.ts';

export interface Frame {
  title: string;
  /** Which entry of the navigation the page is. */
  at?: 'access' | 'pending' | 'sessions' | 'history';
  session?: BrowserSession;
  /** How much waits for the reader's decision. */
  waiting?: number;
  notes?: readonly Note[];
  trouble?: string | undefined;
  /** Changes of what there is to see are followed without a reload. */
  live?: boolean;
}

export function page(frame: Frame, body: Insert): Markup {
  const { session, at, live = false } = frame;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${frame.title} · Sallyport</title>
<link rel="stylesheet" href="/assets/portal.css">
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<script src="/assets/portal.js" defer></script>
${live && html`<noscript><meta http-equiv="refresh" content="10"></noscript>`}
</head>
<body${live && html` data-live="/events"`}>
<a class="skip" href="#main">Skip to content</a>
<header class="top">
<a class="brand" href="/"><img src="/assets/icon.svg" alt="" width="28" height="28"><span>Sallyport</span></a>
${
  session &&
  html`<nav aria-label="Pages"><ul>
${entry('/', 'My access', at === 'access')}
${entry('/pending', 'To decide', at === 'pending', frame.waiting)}
${entry('/sessions', 'Sessions', at === 'sessions')}
${entry('/history', 'History', at === 'history')}
</ul></nav>
<form class="who" method="post" action="/logout">${csrfField(session)}<span class="name" title="${session.principal.username}">${session.principal.username}</span><button class="quiet">Log out</button></form>`
}
</header>
<main id="main" tabindex="-1">
<div id="status" class="notes" role="status">
${(frame.notes ?? []).map((note) => html`<p class="note ${note.tone}">${note.text}</p>`)}
${frame.trouble !== undefined && html`<p class="note bad">${frame.trouble}</p>`}
</div>
${body}
</main>
</body>
</html>
`;
}

const entry = (href: string, name: string, current: boolean, count = 0): Markup =>
  html`<li><a href="${href}"${current && html` aria-current="page"`}>${name}${href === '/pending' && html` <span class="count" data-key="count" data-rev="${count}">${count > 0 && html`${count}<span class="unseen"> waiting</span>`}</span>`}</a></li>`;

export const csrfField = (session: BrowserSession): Markup =>
  html`<input type="hidden" name="csrf" value="${session.csrf}">`;

/** Name and value pairs; those without a value are left out. */
export function facts(rows: readonly (readonly [string, Insert])[]): Markup {
  return html`<dl class="facts">${rows
    .filter(([, value]) => value !== undefined && value !== false && value !== '')
    .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function badge(text: string, tone: 'good' | 'bad' | 'wait' | 'plain' = 'plain'): Markup {
  return html`<span class="badge ${tone}">${text}</span>`;
}

export function phaseBadge(phase: string | undefined, scheduled = false): Markup {
  if (scheduled) return badge('Scheduled', 'wait');
  switch (phase) {
    case 'Active':
    case 'Approved':
      return badge(phase, 'good');
    case 'Pending':
    case 'Waiting':
      return badge(phase, 'wait');
    case 'Denied':
    case 'Revoked':
      return badge(phase, 'bad');
    default:
      return badge(phase ?? 'New');
  }
}

/** What is in the list is followed by key: entries come, change and go without a reload. */
export function list(name: string, items: readonly Markup[], empty: Insert): Markup {
  return html`<ul class="cards" data-list="${name}">${items}</ul><p class="empty"${items.length > 0 && html` hidden`} data-empty="${name}">${empty}</p>`;
}

export function card(key: string, rev: string, body: Insert, tone = ''): Markup {
  return html`<li class="card ${tone}" data-key="${key}" data-rev="${rev}">${body}</li>`;
}

export function loginPage(returnTo: string, notes: readonly Note[]): Markup {
  return page(
    { title: 'Log in', notes },
    html`<div class="welcome">
<h1>Short, approved, recorded access</h1>
<p>Ask for access to what you need, for as long as you need it, and decide about what others ask for.</p>
<p><a class="button" href="/login?return=${encodeURIComponent(returnTo)}">Log in</a></p>
</div>`,
  );
}

export function errorPage(
  status: number,
  message: string,
  options: { hint?: string | undefined; session?: BrowserSession | undefined } = {},
): Markup {
  const title = status === 404 ? 'Not found' : status >= 500 ? 'Not now' : 'Refused';
  return page(
    { title, ...(options.session === undefined ? {} : { session: options.session }) },
    html`<div class="welcome"><h1>${title}</h1><p>${message}</p>${options.hint !== undefined && html`<p>${options.hint}</p>`}<p><a class="button" href="/">To the start page</a></p></div>`,
  );
}
