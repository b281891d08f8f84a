// The two things that take a browser to the identity provider and back: logging in, and acts. An act's nonce is the hash
// of the object that is to be made; the ID token that comes back goes with the object as its proof and is kept nowhere.
// Guarantees: an answer counts once, in the browser that began, for what it began; an act is made only as the person whose
// page it was begun on. Does not say whether the act counts: that is told by what the operator made of it.
import { API_GROUP_VERSION } from '../api/group.ts';
import { type ActObject, actNonce, actOf, provenName, stemOf } from '../identity/acts.ts';
import { type ProvenToken, verifyToken } from '../identity/oidc/verify-token.ts';
import type { NewObject } from '../store/resource-store.ts';
import { HttpError } from '../system/http-error.ts';
import { addFlow, addNote, type BrowserSession, type Flow, takeFlow, type Visitor } from './browser-sessions.ts';
import { newState, newVerifier } from './login.ts';
import type { Portal } from './portal.ts';

/** Sends the browser to log in; the answer is its address. */
export async function beginLogin(portal: Portal, visitor: Visitor, returnTo: string): Promise<URL> {
  const flow: Flow = {
    kind: 'Login',
    verifier: newVerifier(),
    nonce: portal.random.bytes(32).toString('base64url'),
    startedMs: portal.clock.now(),
    returnTo,
  };
  return begin(portal, visitor, flow, {});
}

/** `parameters`: what the policy's step-up asks of the provider, such as `max_age`. */
export async function beginAct(
  portal: Portal,
  session: BrowserSession,
  object: Omit<ActObject, 'metadata'> & { metadata: { namespace: string } },
  options: { returnTo: string; parameters?: Readonly<Record<string, string>> },
): Promise<URL> {
  const salt = portal.random.bytes(16).toString('base64url');
  const nonce = actNonce(actOf(await portal.world.cluster(), object, salt));
  const name = provenName(stemOf('Portal', object), nonce);
  const parameters = options.parameters ?? {};
  return begin(
    portal,
    session,
    {
      kind: 'Act',
      object: { ...object, metadata: { ...object.metadata, name } } as ActObject,
      salt,
      nonce,
      silent: true,
      parameters,
      verifier: newVerifier(),
      startedMs: portal.clock.now(),
      returnTo: options.returnTo,
    },
    { ...parameters, prompt: 'none' },
  );
}

async function begin(
  portal: Portal,
  holder: Visitor,
  flow: Flow,
  parameters: Readonly<Record<string, string>>,
): Promise<URL> {
  const state = newState();
  let url: URL;
  try {
    url = await portal.login.begin({ state, nonce: flow.nonce, verifier: flow.verifier, parameters });
  } catch (error) {
    portal.log('warn', 'the identity provider can not be asked', { error: (error as Error).message });
    throw new HttpError(502, 'The identity provider can not be reached.', 'Try again in a moment.');
  }
  addFlow(holder, state, flow);
  return url;
}

export type Arrival =
  | { kind: 'LoggedIn'; token: ProvenToken; returnTo: string }
  /** To be asked again, this time with its pages. */
  | { kind: 'Onward'; url: URL }
  | { kind: 'Acted'; returnTo: string };

/** The identity provider sent the browser back. */
export async function arrive(
  portal: Portal,
  answer: URL,
  holders: { session: BrowserSession | undefined; visitor: Visitor | undefined },
): Promise<Arrival> {
  const now = portal.clock.now();
  const states = answer.searchParams.getAll('state');
  const state = states.length === 1 ? states[0]! : '';
  const { session, visitor } = holders;
  const holder = session?.flows.has(state) === true ? session : visitor;
  const flow = takeFlow(holder, state, now);
  if (flow === undefined) {
    throw new HttpError(
      400,
      'This answer of the identity provider was not asked for here, or came too late.',
      'Begin again on the page.',
    );
  }
  const outcome = await portal.login.finish(answer, { state, nonce: flow.nonce, verifier: flow.verifier });
  if (outcome.kind === 'Refused') {
    const needsPages = ['login_required', 'interaction_required', 'consent_required', 'account_selection_required'];
    if (flow.kind === 'Act' && flow.silent && session !== undefined && needsPages.includes(outcome.code)) {
      return { kind: 'Onward', url: await begin(portal, session, { ...flow, silent: false }, flow.parameters) };
    }
    portal.log('info', 'the identity provider refused', { code: shortCode(outcome.code) });
    throw new HttpError(403, `The identity provider refused (${shortCode(outcome.code)}).`, 'Nothing was done.');
  }
  if (outcome.kind === 'Failed') {
    portal.log('warn', 'a round trip to the identity provider failed', { error: outcome.message });
    throw new HttpError(502, 'The answer of the identity provider can not be used.', 'Nothing was done. Try again.');
  }
  const verdict = await verifyToken(outcome.idToken, {
    providers: await portal.world.providers(),
    uses: ['ID'],
    nowMs: portal.clock.now(),
    nonce: flow.nonce,
  });
  if (verdict.kind === 'Bad') {
    portal.log('warn', 'a token was refused', { fault: verdict.fault, detail: verdict.detail ?? '' });
    if (verdict.unknownKid === true && verdict.provider !== undefined) {
      portal.world.unknownKey(verdict.provider);
      const message = 'The identity provider has a new key, which Sallyport is asking for.';
      throw new HttpError(503, message, 'Nothing was done. Try again in a moment.');
    }
    throw new HttpError(
      403,
      'Sallyport does not accept the token of this login.',
      'Nothing was done. An administrator sees why in the portal’s log.',
    );
  }
  if (flow.kind === 'Login') return { kind: 'LoggedIn', token: verdict.token, returnTo: flow.returnTo };
  if (session === undefined || !isSame(session, verdict.token)) {
    throw new HttpError(
      403,
      `You logged in as ${verdict.token.principal.username}, and this page is somebody else’s.`,
      'Nothing was done. Log out here first.',
    );
  }
  // Fresh from the provider: groups that were lost since are lost here too.
  session.principal = { ...verdict.token.principal, provider: verdict.token.provider };
  await make(portal, session, flow, `${flow.salt}.${outcome.idToken}`);
  return { kind: 'Acted', returnTo: flow.returnTo };
}

const shortCode = (code: string): string => (/^[a-z_]{1,64}$/.test(code) ? code : 'of its own kind');

function isSame({ principal }: BrowserSession, token: ProvenToken): boolean {
  const theirs = token.principal;
  return principal.uid !== undefined || theirs.uid !== undefined
    ? principal.uid === theirs.uid
    : principal.username === theirs.username;
}

const SETTLE_MS = 3_000;
const LOOK_MS = 75;

async function make(
  portal: Portal,
  session: BrowserSession,
  flow: Extract<Flow, { kind: 'Act' }>,
  proof: string,
): Promise<void> {
  const { object } = flow;
  const field = object.kind === 'AccessGrant' ? 'requester' : 'approver';
  const made = await portal.world.create({
    apiVersion: API_GROUP_VERSION,
    kind: object.kind,
    metadata: object.metadata as NewObject['metadata'],
    // The rest of the stamp follows from the proof.
    spec: { ...object.spec, [field]: { via: 'Portal', proof } },
  });
  switch (made.kind) {
    case 'Exists':
      return addNote(session, { tone: 'plain', text: 'That was done already.' });
    case 'Refused':
      return addNote(session, { tone: 'bad', text: [made.message, made.hint ?? ''].join(' ').trim() });
    case 'Unavailable':
      portal.log('warn', 'an act could not be stored', { error: made.message });
      return addNote(session, { tone: 'bad', text: `Sallyport can not store it now: ${made.message}` });
    case 'Made':
      return addNote(session, await outcomeOf(portal, object));
  }
}

/** What the operator made of it, if it says so soon. */
async function outcomeOf(portal: Portal, object: ActObject): Promise<{ tone: 'good' | 'bad' | 'plain'; text: string }> {
  const { namespace = '', name } = object.metadata;
  const until = portal.clock.monotonic() + SETTLE_MS;
  for (;;) {
    const found = await portal.world.get(object.kind, namespace, name);
    const status = found?.status as
      | {
          phase?: string;
          message?: string;
          waitingFor?: string;
          conditions?: { type: string; status: string; message: string }[];
        }
      | undefined;
    if (object.kind === 'AccessGrant') {
      if (status?.phase === 'Active') return { tone: 'good', text: 'You have access now.' };
      if (status?.phase === 'Pending')
        return {
          tone: 'plain',
          text: status.waitingFor === undefined ? 'Asked for.' : `Asked for. It needs ${status.waitingFor}.`,
        };
      if (status?.phase !== undefined) return { tone: 'bad', text: status.message ?? status.phase };
    } else {
      const counted = status?.conditions?.find((each) => each.type === 'Counted');
      if (counted?.status === 'True') return { tone: 'good', text: DONE[object.spec.decision] ?? 'Done.' };
      if (counted?.status === 'False') return { tone: 'bad', text: `It does not count. ${counted.message}` };
    }
    if (portal.clock.monotonic() >= until) {
      return { tone: 'plain', text: 'It is stored; the operator has not looked at it yet.' };
    }
    await new Promise<void>((resolve) => portal.clock.after(LOOK_MS, resolve));
  }
}

const DONE: Readonly<Record<string, string>> = {
  Approve: 'Approved.',
  Deny: 'Denied.',
  Revoke: 'Revoked. Sessions are cut.',
  Withdraw: 'Withdrawn.',
  SignOff: 'Signed off.',
};
