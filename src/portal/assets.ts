// The page's only style sheet, script and picture. The script adds: lists that follow what happens, times in the reader's
// zone, counting down, copying. Without it everything works, by reloading.
import { createHash } from 'node:crypto';

const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --sheet: #ffffff; --ink: #1d1f22; --soft: #5d636b; --line: #e2dfd8; --fill: #f1eee7;
  --accent: #1f5f4a; --accent-ink: #ffffff; --accent-soft: #e3efe9;
  --bad: #a3261d; --bad-ink: #ffffff; --bad-soft: #fbe9e6; --wait: #7a5200; --wait-soft: #fbf0d6; --good: #1f5f4a; --good-soft: #e3efe9;
  --focus: #1358c4;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --sheet: #1d2024; --ink: #eceae5; --soft: #a5abb3; --line: #32363c; --fill: #262a2f;
    --accent: #7fd0b0; --accent-ink: #0c1f18; --accent-soft: #1c3229;
    --bad: #ff9c90; --bad-ink: #2b0704; --bad-soft: #3a1d1a; --wait: #f0c673; --wait-soft: #372b13; --good: #7fd0b0; --good-soft: #1c3229;
    --focus: #8db8ff;
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1, h2, h3 { line-height: 1.25; margin: 0; font-weight: 650; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 1.25rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .75rem; }
h3 { font-size: 1rem; }
p { margin: .5rem 0; overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: .18em; text-decoration-thickness: from-font; }
code, pre { font-family: var(--mono); font-size: .9em; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; border-radius: 4px; }
main:focus { outline: none; }
[hidden] { display: none !important; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: -999rem; top: .5rem; padding: .5rem 1rem; background: var(--sheet); z-index: 2; }
.skip:focus { left: .5rem; }

.top {
  display: flex; flex-wrap: wrap; align-items: center; gap: .25rem 1.5rem;
  padding: .75rem max(1rem, calc((100% - 60rem) / 2 + 1rem)); background: var(--sheet); border-bottom: 1px solid var(--line);
}
.brand { display: flex; align-items: center; gap: .5rem; color: var(--ink); font-weight: 700; text-decoration: none; }
.top nav { flex: 1 1 auto; }
.top nav ul { display: flex; flex-wrap: wrap; gap: .25rem; margin: 0; padding: 0; list-style: none; }
.top nav a { display: block; padding: .4rem .7rem; border-radius: 6px; color: var(--soft); text-decoration: none; }
.top nav a:hover { background: var(--fill); color: var(--ink); }
.top nav a[aria-current] { color: var(--ink); background: var(--fill); font-weight: 600; }
.count:not(:empty) { display: inline-block; min-width: 1.4em; padding: 0 .4em; border-radius: 1em; background: var(--wait-soft); color: var(--wait); font-size: .8em; font-weight: 700; text-align: center; }
.who { display: flex; align-items: center; gap: .75rem; min-width: 0; margin: 0; color: var(--soft); font-size: .9rem; }
.who .name { max-width: 14rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }

main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
.notes { display: grid; gap: .5rem; }
.notes:not(:empty) { margin-bottom: 1rem; }
.note { margin: 0; padding: .7rem 1rem; border-radius: 8px; background: var(--fill); border-left: 4px solid var(--soft); }
.note.good { background: var(--good-soft); border-color: var(--good); }
.note.bad { background: var(--bad-soft); border-color: var(--bad); }
.lead { font-size: 1.05rem; color: var(--soft); margin: -.5rem 0 1rem; }
.meta, .hint, .aside, .optional { color: var(--soft); font-size: .9rem; font-weight: 400; }
.empty { color: var(--soft); margin: 0; padding: 1rem; border: 1px dashed var(--line); border-radius: 10px; }
.empty:empty { display: none; }
.crumb { margin: 0 0 .5rem; font-size: .9rem; }
.crumb::before { content: "\\2190\\00a0"; color: var(--soft); }
.welcome { max-width: 34rem; margin: 12vh auto 0; }

.cards { display: grid; gap: .75rem; margin: 0; padding: 0; list-style: none; }
.cards:empty { display: none; }
.card { padding: 1rem 1.1rem; background: var(--sheet); border: 1px solid var(--line); border-radius: 10px; min-width: 0; }
.card.urgent { border-color: var(--wait); box-shadow: inset 4px 0 0 var(--wait); }
.card.fresh { animation: arrive .6s ease-out; }
.card p { margin: .35rem 0 0; }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: flex-start; gap: .25rem .75rem; }
.head h3 { min-width: 0; }
.badge { display: inline-block; padding: .1rem .55rem; border-radius: 1em; background: var(--fill); color: var(--soft); font-size: .8rem; font-weight: 600; letter-spacing: 0; vertical-align: middle; white-space: nowrap; }
.badge.good { background: var(--good-soft); color: var(--good); }
.badge.bad { background: var(--bad-soft); color: var(--bad); }
.badge.wait { background: var(--wait-soft); color: var(--wait); }
q { quotes: "\\201c" "\\201d"; }
.rows { margin: 0; padding: 0; list-style: none; background: var(--sheet); border: 1px solid var(--line); border-radius: 10px; }
.rows li { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .1rem 1rem; padding: .7rem 1.1rem; }
.rows li + li { border-top: 1px solid var(--line); }
.rows a, .rows .meta { min-width: 0; overflow-wrap: anywhere; }

.sheet { padding: 1.5rem; background: var(--sheet); border: 1px solid var(--line); border-radius: 12px; }
.facts { display: grid; gap: 0; margin: 1rem 0; }
.facts > div { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: .25rem 1rem; padding: .45rem 0; border-top: 1px solid var(--line); }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
.steps { margin: 0; padding-left: 1.4rem; }
.steps .done { color: var(--good); }
.steps .later, .vote { color: var(--soft); }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4; }
.statement { margin: 1rem 0; }
.statement pre { max-height: 24rem; overflow: auto; padding: 1rem; background: var(--fill); border-radius: 8px; border-left: 4px solid var(--wait); }
figcaption { margin-top: .35rem; color: var(--soft); font-size: .9rem; }
.peek { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; line-clamp: 4; margin-top: .5rem; overflow: hidden; color: var(--soft); }
.command { display: flex; align-items: center; gap: .5rem; padding: .5rem .75rem; background: var(--fill); border-radius: 8px; }
.command code { flex: 1; min-width: 0; overflow-wrap: anywhere; }

label { display: block; font-weight: 600; }
input, select, textarea {
  width: 100%; margin-top: .25rem; padding: .55rem .7rem; border: 1px solid var(--soft); border-radius: 8px;
  background: var(--paper); color: var(--ink); font: inherit;
}
textarea { resize: vertical; }
.ask { display: grid; gap: 1.1rem; max-width: 34rem; }
.ask p { margin: .25rem 0 0; }
.check { display: flex; gap: .6rem; align-items: center; }
.check input { width: 1.2rem; height: 1.2rem; margin: 0; }
button, .button {
  display: inline-block; min-height: 2.75rem; padding: .55rem 1.2rem; border: 1px solid transparent; border-radius: 8px;
  background: var(--accent); color: var(--accent-ink); font: inherit; font-weight: 600; text-decoration: none; cursor: pointer;
}
button:hover, .button:hover { filter: brightness(1.08); }
button.danger { background: transparent; color: var(--bad); border-color: var(--bad); }
button.danger:hover { background: var(--bad-soft); filter: none; }
button.quiet { min-height: 2.25rem; padding: .3rem .7rem; background: transparent; color: var(--soft); border-color: var(--line); font-weight: 500; }
button.quiet:hover { color: var(--ink); border-color: var(--soft); filter: none; }
button:disabled { opacity: .55; cursor: default; }
.choices { display: grid; gap: .75rem; margin: 1rem 0 0; padding: 0; list-style: none; }
.choices li { display: grid; grid-template-columns: 9rem minmax(0, 1fr); gap: .35rem 1rem; align-items: center; }
.choices p { margin: 0; }

@media (max-width: 40rem) {
  h1 { font-size: 1.35rem; }
  main { padding: 1.25rem .75rem 3rem; }
  .top { padding: .6rem .75rem; gap: .25rem .75rem; }
  .top nav { order: 3; flex-basis: 100%; }
  .top nav ul { gap: 0; }
  .top nav a { padding: .4rem .45rem; font-size: .9rem; }
  .who { margin-left: auto; }
  .who .name { max-width: 7.5rem; }
  .sheet { padding: 1rem; }
  .facts > div, .choices li { grid-template-columns: minmax(0, 1fr); gap: .35rem; }
  .facts > div { gap: .1rem; }
  .choices { gap: 1.1rem; }
  .choices button { width: 100%; }
}
@keyframes arrive { from { background: var(--wait-soft); } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; } }
@media (forced-colors: active) { .badge, .note, .card { border: 1px solid; } }
`;

const SCRIPT = `'use strict';
(() => {
  const zone = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
  const span = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    const parts = [[Math.floor(s / 3600), 'h'], [Math.floor(s / 60) % 60, 'm'], [s % 60, 's']].filter(([n]) => n > 0);
    return parts.length === 0 ? '0s' : parts.map(([n, unit]) => n + unit).join('');
  };
  const dress = (root) => {
    for (const time of root.querySelectorAll('time[data-moment]')) time.textContent = zone.format(new Date(time.dateTime));
    for (const button of root.querySelectorAll('button[data-copy]')) button.hidden = !navigator.clipboard;
  };
  const count = () => {
    for (const time of document.querySelectorAll('time[data-countdown]')) {
      const text = span(Date.parse(time.dateTime) - Date.now());
      if (time.textContent !== text) time.textContent = text;
    }
  };
  dress(document);
  count();
  setInterval(count, 1000);

  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('button[data-copy]');
    if (!button) return;
    navigator.clipboard.writeText(button.dataset.copy).then(() => {
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 2000);
    }, () => undefined);
  });
  // One click, one act: a form that is on its way is not sent again.
  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = 'yes';
    setTimeout(() => { for (const button of form.querySelectorAll('button')) button.disabled = true; }, 0);
  });
  addEventListener('pageshow', () => {
    for (const form of document.forms) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll('button')) button.disabled = false;
    }
  });

  const source = document.body.dataset.live;
  if (!source || !window.EventSource) return;
  const busy = (element) => element.contains(document.activeElement) && document.activeElement !== document.body;
  const merge = (next) => {
    for (const list of document.querySelectorAll('[data-list]')) {
      const theirs = next.querySelector('[data-list="' + list.dataset.list + '"]');
      if (!theirs) continue;
      const known = new Map([...list.children].map((item) => [item.dataset.key, item]));
      let place = list.firstElementChild;
      for (const item of [...theirs.children]) {
        const old = known.get(item.dataset.key);
        known.delete(item.dataset.key);
        if (old && (old.dataset.rev === item.dataset.rev || busy(old))) {
          if (old === place) place = place.nextElementSibling;
          else list.insertBefore(old, place);
          continue;
        }
        const made = document.importNode(item, true);
        dress(made);
        made.classList.add('fresh');
        list.insertBefore(made, place);
        if (old) { if (old === place) place = place.nextElementSibling; old.remove(); }
      }
      for (const gone of known.values()) gone.remove();
      const empty = document.querySelector('[data-empty="' + list.dataset.list + '"]');
      if (empty) empty.hidden = list.children.length > 0;
    }
    for (const one of document.querySelectorAll('.sheet[data-key], .count[data-key]')) {
      const theirs = next.querySelector('.' + one.classList[0] + '[data-key="' + one.dataset.key + '"]');
      if (!theirs || theirs.dataset.rev === one.dataset.rev || busy(one) || one.querySelector('textarea')?.value) continue;
      const made = document.importNode(theirs, true);
      dress(made);
      one.replaceWith(made);
    }
    count();
  };
  let asking = false;
  let again = false;
  const refresh = async () => {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { 'x-live': '1' }, redirect: 'manual' });
      if (answer.ok) merge(new DOMParser().parseFromString(await answer.text(), 'text/html'));
      else if (answer.status === 401) location.reload();
    } catch {
      // The stream comes back by itself, and with it the next look.
    } finally {
      asking = false;
      if (again) { again = false; refresh(); }
    }
  };
  const stream = new EventSource(source);
  stream.onmessage = refresh;
  let opened = false;
  stream.onopen = () => { if (opened) refresh(); opened = true; };
  addEventListener('pagehide', () => stream.close());
})();
`;

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1f5f4a"/><path d="M7 26V13a9 9 0 0 1 18 0v13h-5V14a4 4 0 0 0-8 0v12z" fill="#fbfaf7"/></svg>`;

export interface Asset {
  type: string;
  body: Buffer;
  etag: string;
}

const asset = (type: string, text: string): Asset => ({
  type,
  body: Buffer.from(text),
  etag: `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`,
});

export const ASSETS: ReadonlyMap<string, Asset> = new Map([
  ['/assets/portal.css', asset('text/css; charset=utf-8', STYLE)],
  ['/assets/portal.js', asset('text/javascript; charset=utf-8', SCRIPT)],
  ['/assets/icon.svg', asset('image/svg+xml', ICON)],
]);
