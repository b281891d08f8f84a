// Which page is at which address, for somebody who is logged in, and what the forms do. Every page is made of what
// `concerns.ts` let through; what does not concern the reader is not there, and is not told apart from what never was.
import { specHash } from '../api/canonical.ts';
import type { Connection } from '../api/connection.ts';
import { type AccessApproval, type AccessGrant, type AccessGrantSpec, DECISIONS } from '../api/grant.ts';
import type { CommandHold } from '../api/hold.ts';
import type { AccessPolicy } from '../api/policy.ts';
import { validateSpec } from '../api/validate.ts';
import { HttpError } from '../system/http-error.ts';
import type { BrowserSession } from './browser-sessions.ts';
import {
  type Decision,
  type GrantConcern,
  grantConcern,
  type HoldConcern,
  hasVoted,
  historyOf,
  holdConcern,
  ownsGrant,
} from './concerns.ts';
import type { Markup } from './html.ts';
import { type Offer, offersFor } from './offers.ts';
import { grantPage, grantPath, holdPage, holdPath } from './pages/decide.ts';
import { type Frame, page } from './pages/layout.ts';
import { accessPage, historyPage, pendingPage, requestPage, sessionsPage } from './pages/lists.ts';
import type { Portal } from './portal.ts';
import { beginAct } from './round-trip.ts';
import { stepUpOf } from './step-up.ts';

/** Most entries of a list; the newest. */
const MOST_SHOWN = 200;
const SEGMENT = '([a-z0-9][-a-z0-9.]{0,252})';
const GRANT = new RegExp(`^/grants/${SEGMENT}/${SEGMENT}$`);
const HOLD = new RegExp(`^/holds/${SEGMENT}/${SEGMENT}$`);
const REQUEST = new RegExp(`^/request/${SEGMENT}/${SEGMENT}$`);

interface Seen {
  nowMs: number;
  grants: readonly AccessGrant[];
  policies: readonly AccessPolicy[];
  concerns: readonly GrantConcern[];
  holds: readonly HoldConcern[];
}

async function look(portal: Portal, session: BrowserSession): Promise<Seen> {
  const { world } = portal;
  const nowMs = portal.clock.now();
  const [grants, policies, holds] = await Promise.all([
    world.list<AccessGrant>('AccessGrant'),
    world.list<AccessPolicy>('AccessPolicy'),
    world.list<CommandHold>('CommandHold'),
  ]);
  const { principal } = session;
  return {
    nowMs,
    grants,
    policies,
    concerns: newestFirst(
      grants.flatMap((grant) => grantConcern(principal, grant, policies, nowMs) ?? []),
      ({ grant }) => grant,
    ),
    // What is over soonest comes first.
    holds: holds
      .flatMap((hold) => holdConcern(principal, hold, nowMs) ?? [])
      .sort((a, b) => Date.parse(a.hold.spec.until) - Date.parse(b.hold.spec.until)),
  };
}

function newestFirst<T>(items: T[], of: (item: T) => { metadata: { creationTimestamp: string; name: string } }): T[] {
  const key = (item: T): string => `${of(item).metadata.creationTimestamp} ${of(item).metadata.name}`;
  return items.sort((a, b) => (key(a) > key(b) ? -1 : 1));
}

const isOpen = ({ grant }: GrantConcern): boolean => {
  const phase = grant.status?.phase ?? 'Pending';
  return phase === 'Pending' || phase === 'Active';
};
const isWaiting = ({ hold, actions }: HoldConcern): boolean =>
  (hold.status?.phase ?? 'Waiting') === 'Waiting' && actions.length > 0;
const toDecide = (concern: GrantConcern): boolean =>
  concern.role === 'Approver' && concern.actions.some((each) => each === 'Approve' || each === 'SignOff');

/** The page at the path for this reader; undefined: there is none. */
export async function showPage(portal: Portal, session: BrowserSession, path: string): Promise<Markup | undefined> {
  const { principal } = session;
  const seen = await look(portal, session);
  const { concerns, holds, nowMs } = seen;
  const waiting =
    concerns.filter(toDecide).length + holds.filter((each) => each.role === 'Approver' && isWaiting(each)).length;
  const frame = (title: string, rest: Partial<Frame> = {}): Frame => ({
    title,
    session,
    waiting,
    notes: session.notes.splice(0),
    trouble: portal.world.trouble(),
    ...rest,
  });
  const { prefix } = portal.world;
  switch (path) {
    case '/': {
      const connections = await portal.world.list<Connection>('Connection');
      const body = accessPage({
        holds: holds.filter((each) => each.role === 'Own' && isWaiting(each)).slice(0, MOST_SHOWN),
        grants: concerns.filter((each) => each.role === 'Own' && isOpen(each)).slice(0, MOST_SHOWN),
        offers: offersFor(principal, connections, seen.policies),
        prefix,
        nowMs,
      });
      return page(frame('My access', { at: 'access', live: true }), body);
    }
    case '/pending': {
      const others = concerns.filter((each) => each.role === 'Approver');
      const body = pendingPage({
        holds: holds.filter((each) => each.role === 'Approver' && isWaiting(each)).slice(0, MOST_SHOWN),
        requests: others
          .filter((each) => each.actions.length > 0 && (each.grant.status?.phase === 'Pending' || each.signOffDue))
          .slice(0, MOST_SHOWN),
        active: others.filter((each) => each.grant.status?.phase === 'Active' && !each.signOffDue).slice(0, MOST_SHOWN),
        prefix,
        nowMs,
      });
      return page(frame('To decide', { at: 'pending', live: true }), body);
    }
    case '/sessions': {
      const own = new Set(
        seen.grants.filter((grant) => ownsGrant(principal, grant)).map(({ metadata }) => metadata.uid),
      );
      const sessions = (await portal.world.sessions()).filter((each) => own.has(each.grant.uid));
      return page(
        frame('My sessions', { at: 'sessions', live: true }),
        sessionsPage(sessions.slice(0, MOST_SHOWN), nowMs),
      );
    }
    case '/history': {
      const over = concerns.filter((each) => !isOpen(each));
      const of = (role: GrantConcern['role']): GrantConcern[] =>
        over.filter((each) => each.role === role).slice(0, MOST_SHOWN);
      return page(frame('History', { at: 'history' }), historyPage(of('Own'), of('Approver')));
    }
    default:
  }
  const [, grantNamespace, grantName] = GRANT.exec(path) ?? [];
  if (grantName !== undefined) {
    const concern = concerns.find(({ grant }) => isAt(grant, grantNamespace, grantName));
    if (concern === undefined) return undefined;
    const approvals = await portal.world.list<AccessApproval>('AccessApproval');
    const body = grantPage(session, concern, {
      history: concern.role === 'Approver' ? historyOf(concern.grant, seen.grants, nowMs) : undefined,
      voted: hasVoted(principal, concern.grant.metadata.uid, approvals),
      prefix,
      nowMs,
    });
    return page(frame(grantName, { at: concern.role === 'Own' ? 'access' : 'pending', live: true }), body);
  }
  const [, holdNamespace, holdName] = HOLD.exec(path) ?? [];
  if (holdName !== undefined) {
    const concern = holds.find(({ hold }) => isAt(hold, holdNamespace, holdName));
    if (concern === undefined) return undefined;
    const at = concern.role === 'Own' ? 'access' : 'pending';
    return page(frame(holdName, { at, live: true }), holdPage(session, concern, nowMs));
  }
  const [, namespace, name] = REQUEST.exec(path) ?? [];
  if (name !== undefined) {
    const offer = await offerOf(portal, session, namespace!, name);
    if (offer === undefined) return undefined;
    return page(frame(`Ask for ${name}`, { at: 'access' }), requestPage(session, offer, { values: new Map() }));
  }
  return undefined;
}

const isAt = (
  object: { metadata: { namespace?: string; name: string } },
  namespace: string | undefined,
  name: string,
): boolean => object.metadata.namespace === namespace && object.metadata.name === name;

async function offerOf(
  portal: Portal,
  session: BrowserSession,
  namespace: string,
  name: string,
): Promise<Offer | undefined> {
  const [connection, policies] = await Promise.all([
    portal.world.get<Connection>('Connection', namespace, name),
    portal.world.list<AccessPolicy>('AccessPolicy'),
  ]);
  return connection && offersFor(session.principal, [connection], policies)[0];
}

export type FormOutcome = { kind: 'Go'; to: URL } | { kind: 'Page'; status: number; page: Markup };

/** What a form asks for; undefined: there is no such form. */
export async function takeForm(
  portal: Portal,
  session: BrowserSession,
  path: string,
  fields: ReadonlyMap<string, string>,
): Promise<FormOutcome | undefined> {
  if (path === '/decide') return { kind: 'Go', to: await decide(portal, session, fields) };
  const [, namespace, name] = REQUEST.exec(path) ?? [];
  return name === undefined ? undefined : ask(portal, session, { namespace: namespace!, name, fields });
}

/** The decision is bound to what was shown: another uid or spec under the name is another object. */
async function decide(portal: Portal, session: BrowserSession, fields: ReadonlyMap<string, string>): Promise<URL> {
  const field = (name: string): string => fields.get(name) ?? '';
  const [namespace, name, kind] = [field('namespace'), field('name'), field('kind')];
  const decision = DECISIONS.find((each): each is Decision => each === field('decision'));
  const seen = await look(portal, session);
  const grant = kind === 'AccessGrant' ? seen.concerns.find((each) => isAt(each.grant, namespace, name)) : undefined;
  const hold = kind === 'CommandHold' ? seen.holds.find((each) => isAt(each.hold, namespace, name)) : undefined;
  const target = grant?.grant ?? hold?.hold;
  const actions = (grant ?? hold)?.actions ?? [];
  if (target === undefined || decision === undefined) throw new HttpError(404, 'There is nothing like that to decide.');
  const to = target.kind === 'AccessGrant' ? grantPath(target) : holdPath(target);
  if (target.metadata.uid !== field('uid') || specHash(target.spec) !== field('specHash')) {
    throw new HttpError(409, 'It is not what you were shown any more.', 'Nothing was done. Open it again and look.');
  }
  if (!actions.includes(decision)) {
    throw new HttpError(
      409,
      'This can not be decided any more, or not by you.',
      'Nothing was done. Open it again and look.',
    );
  }
  const reason = field('reason').trim();
  if (reason.length > 1024) throw new HttpError(400, 'The reason is longer than 1024 characters.');
  const parameters = stepUpOf(grant?.policy, decision);
  return beginAct(
    portal,
    session,
    {
      kind: 'AccessApproval',
      metadata: { namespace },
      spec: {
        targetRef: { kind: target.kind, name, uid: target.metadata.uid },
        specHash: specHash(target.spec),
        decision,
        ...(reason === '' ? {} : { reason }),
      },
    },
    { returnTo: to, parameters },
  );
}

async function ask(
  portal: Portal,
  session: BrowserSession,
  given: { namespace: string; name: string; fields: ReadonlyMap<string, string> },
): Promise<FormOutcome | undefined> {
  const { namespace, name, fields } = given;
  const offer = await offerOf(portal, session, namespace, name);
  if (offer === undefined) return undefined;
  const text = (field: string): string => (fields.get(field) ?? '').trim();
  const spec: AccessGrantSpec = { connectionRef: { name } };
  if (text('account') !== '') spec.account = text('account');
  if (text('policy') !== '') spec.policyRef = { name: text('policy') };
  if (text('duration') !== '') spec.duration = text('duration');
  if (text('reason') !== '') spec.reason = text('reason');
  if (text('ticket') !== '') spec.ticket = text('ticket');
  if (text('clientKey') !== '') spec.clientKey = text('clientKey');
  if (text('breakGlass') === 'yes') spec.breakGlass = true;
  const problem = validateSpec('AccessGrant', spec)[0];
  if (problem !== undefined) {
    const body = requestPage(session, offer, { values: fields, problem: `${problem.message}; ${problem.hint}` });
    return { kind: 'Page', status: 422, page: page({ title: `Ask for ${name}`, session, at: 'access' }, body) };
  }
  const policies = await portal.world.list<AccessPolicy>('AccessPolicy');
  const policy = policies.find(
    ({ metadata }) =>
      metadata.namespace === namespace && metadata.name === (spec.policyRef?.name ?? offer.policies[0]?.name),
  );
  const to = await beginAct(
    portal,
    session,
    { kind: 'AccessGrant', metadata: { namespace }, spec },
    { returnTo: '/', parameters: stepUpOf(policy, 'Request') },
  );
  return { kind: 'Go', to };
}
