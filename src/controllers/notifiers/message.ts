// What an occurrence is called in words, before any medium: a title, labelled facts, where to look. Pure. Texts are made
// plain here (one line, no control, bidirectional or invisible characters, bounded), so that a reason can neither forge
// another line nor turn a message around; a medium escapes them for itself on top. Nothing in a message decides.
import { hash } from 'node:crypto';
import type { NotifierEvent } from '../../api/notifier.ts';
import type { Facts, Occurrence } from './occurrences.ts';

export interface Message {
  /** `msg_…`; the same however often it is sent. */
  id: string;
  event: NotifierEvent;
  /** RFC 3339. */
  at: string;
  namespace: string;
  kind: string;
  name: string;
  uid: string;
  title: string;
  /** Label and text, in the order in which people want them. */
  lines: readonly (readonly [label: string, text: string])[];
  facts: Facts;
  /** The approval page, where there is one. */
  link?: string;
  /** What to type otherwise. */
  command?: string;
}

const LONGEST_FACT = 500;

/** One line of plain text of at most `longest` characters. */
export function plain(text: string, longest = LONGEST_FACT): string {
  const oneLine = text
    .normalize('NFC')
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .replace(/[\p{Cf}\p{Cs}\p{Co}\p{Default_Ignorable_Code_Point}]/gu, '')
    .trim();
  const characters = Array.from(oneLine);
  return characters.length <= longest ? oneLine : `${characters.slice(0, longest - 1).join('')}…`;
}

/** 27 characters of base64url over what is told to whom: 160 bits. */
export function messageId(notifierUid: string, occurrence: Pick<Occurrence, 'uid' | 'event'>): string {
  const digest = hash('sha256', `sallyport-notice\n${notifierUid}\n${occurrence.uid}\n${occurrence.event}`, 'buffer');
  return `msg_${digest.subarray(0, 20).toString('base64url')}`;
}

const LABELS: readonly (readonly [fact: string, label: string])[] = [
  ['requester', 'Who'],
  ['beneficiary', 'For'],
  ['connection', 'Connection'],
  ['account', 'Account'],
  ['policy', 'Policy'],
  ['command', 'Command'],
  ['rules', 'Held by'],
  ['duration', 'Duration'],
  ['notBefore', 'From'],
  ['expiresAt', 'Until'],
  ['until', 'Answer by'],
  ['reason', 'Reason'],
  ['ticket', 'Ticket'],
  ['waitingFor', 'Waiting for'],
  ['approvers', 'Approved by'],
  ['deciders', 'Decided by'],
  ['finishedBy', 'Ended by'],
  ['phase', 'Outcome'],
  ['message', 'Said'],
  ['signOff', 'Sign-off'],
  ['grant', 'Grant'],
  ['session', 'Session'],
  ['record', 'Record'],
];

function titleOf(event: NotifierEvent, facts: Facts): string {
  const who = plain(facts['requester'] ?? 'somebody', 120);
  const where = plain(facts['connection'] ?? 'a Connection', 80);
  switch (event) {
    case 'GrantRequested':
      return `${who} asks for access to ${where}`;
    case 'GrantApproved':
      return `${who} has access to ${where}`;
    case 'GrantDenied':
      return `${who} does not get access to ${where}`;
    case 'GrantEnded':
      return `Access of ${who} to ${where} has ended`;
    case 'BreakGlass':
      return `EMERGENCY: ${who} took access to ${where} without approval`;
    case 'SignOffDue':
      return `Sign-off is due: emergency access of ${who} to ${where}`;
    case 'HoldOpened':
      return `A command of ${who} on ${where} waits for consent`;
    case 'HoldDecided':
      return `A held command of ${who} on ${where} was decided`;
    case 'SessionStarted':
      return `${who} has a session on ${where}`;
    case 'SessionEnded':
      return `A session of ${who} on ${where} has ended`;
  }
}

export function messageOf(
  occurrence: Occurrence,
  notifier: { uid: string; portalUrl: string | undefined },
  prefix: string,
): Message {
  const { event, facts, namespace, kind, name } = occurrence;
  // A session has no page of its own; its grant has.
  const shown = kind === 'AccessSession' ? (facts['grant'] ?? '') : name;
  const page = `${kind === 'CommandHold' ? 'holds' : 'grants'}/${encodeURIComponent(namespace)}/${encodeURIComponent(shown)}`;
  const link = notifier.portalUrl === undefined ? undefined : `${notifier.portalUrl.replace(/\/+$/, '')}/${page}`;
  const command = commandOf(occurrence, prefix);
  return {
    id: messageId(notifier.uid, occurrence),
    event,
    at: new Date(occurrence.atMs).toISOString(),
    namespace,
    kind,
    name,
    uid: occurrence.uid,
    title: titleOf(event, facts),
    lines: LABELS.flatMap(([fact, label]) => {
      const text = plain(facts[fact] ?? '');
      return text === '' ? [] : [[label, text] as const];
    }),
    facts: Object.fromEntries(Object.entries(facts).map(([fact, text]) => [fact, plain(text)])),
    ...(link === undefined ? {} : { link }),
    ...(command === undefined ? {} : { command }),
  };
}

function commandOf({ event, namespace, name }: Occurrence, prefix: string): string | undefined {
  switch (event) {
    case 'GrantRequested':
    case 'HoldOpened':
      return `${prefix} approve ${name} -n ${namespace}`;
    case 'SignOffDue':
    case 'BreakGlass':
      return `${prefix} sign-off ${name} -n ${namespace}`;
    default:
      return undefined;
  }
}

/** For media that take plain text. */
export function textOf(message: Message): string {
  const where = message.link ?? message.command;
  return [message.title, ...message.lines.map(([label, text]) => `${label}: ${text}`), ...(where ? [where] : [])].join(
    '\n',
  );
}
