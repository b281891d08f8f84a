// What one session has done to the meaning of names, and which names it may therefore still resolve. Guarantees: a name
// that statements of this session may have given another meaning is any schema's until the transaction that did it is
// over and the names were read anew; the search_path that the server reports counts only while nothing was sent since
// that may change it.
//
// Everything that runs code of the database's own may change the path, and so may every read or write of a relation (a
// view, a trigger): behind those it is not trusted until the server is ready again. What a session defined is told by the
// text of its statements. What code it called defined is seen as what others define is: when the names are read again.

import type { SessionPolicy } from '../../../policy/session-policy.ts';
import { functionKind } from '../classify/functions.ts';
import type { SqlCommand } from '../statement.ts';
import type { NamesCatalog } from './catalog.ts';
import { needsNames } from './need.ts';
import { type NameContext, parsePath, resolveNames } from './resolve.ts';

/** Names that one transaction defines one by one; more count as anything. */
const MOST_NAMES = 1000;

export interface NamesSource {
  /** Made at the first call: a session without rules about schemas has none. */
  catalog(): NamesCatalog;
  /** Everybody's, of this database: the names may have changed. */
  changed(): void;
}

/** The names of a few commands that are judged together, in the order they run. */
export interface NameScope {
  resolve(command: SqlCommand): SqlCommand;
  /** Equal for two scopes that resolve alike; undefined: no name had to be resolved. */
  readonly basis: NameContext | undefined;
}

export class SessionNames {
  readonly #source: NamesSource;
  readonly #parameters: ReadonlyMap<string, string>;
  /** Rises with everything sent that may change what names mean. */
  #sent = 0;
  /** `#sent` as of the latest message the server has answered with being ready. */
  #answered = 0;
  #unsettled: Sent | undefined;
  #temporary = false;
  /** The latest context made for what is unsettled, and the one it would be without. */
  readonly #contexts = new WeakMap<Sent, { settled: NameContext; context: NameContext }>();
  /** The role may be another than the account's own. */
  #otherRole = false;

  constructor(source: NamesSource, parameters: ReadonlyMap<string, string>) {
    this.#source = source;
    this.#parameters = parameters;
  }

  /** A promise that never rejects: the names must be read before these can be judged; judge again when it settled. */
  wait(policy: SessionPolicy, commands: readonly SqlCommand[]): Promise<void> | undefined {
    if (!commands.some((command) => needsNames(policy, command))) return undefined;
    const catalog = this.#source.catalog();
    return catalog.stale ? catalog.refresh() : undefined;
  }

  /** `bound`: planned earlier, under a search_path that may have been another. */
  scope(policy: SessionPolicy, options: { bound?: boolean } = {}): NameScope {
    const own = new SentNames(this.#unsettled, this.#temporary);
    let quiet = this.#sent === this.#answered && options.bound !== true;
    let basis: NameContext | undefined;
    return {
      resolve: (command) => {
        const context = needsNames(policy, command) ? this.#context(own, quiet) : undefined;
        basis ??= context;
        const meant = context === undefined ? command : resolveNames(command, context);
        // What comes behind it in the same text is planned when it has run.
        if (disturbs(meant)) quiet = false;
        own.add(meant);
        return meant;
      },
      get basis() {
        return basis;
      },
    };
  }

  /** Whether a scope opened now would resolve as one did whose basis that was. */
  stands(basis: NameContext | undefined): boolean {
    if (basis === undefined) return true;
    if (this.#source.catalog().stale) return false;
    return this.#context(new SentNames(this.#unsettled, this.#temporary), this.#sent === this.#answered) === basis;
  }

  /** These, as resolved, were let through and are about to be sent. undefined: nobody had to understand what. */
  passed(commands: readonly SqlCommand[] | undefined): void {
    if (commands === undefined) {
      this.#sent += 1;
      this.#temporary = true;
      this.#otherRole = true;
      return;
    }
    for (const command of commands) {
      if (disturbs(command)) this.#sent += 1;
      if (changesRole(command)) this.#otherRole = true;
      const added = new SentNames(this.#unsettled, this.#temporary);
      added.add(command);
      this.#temporary = added.temporary;
      if (added.unsettled !== this.#unsettled) this.#unsettled = added.unsettled;
    }
  }

  /** Put beside a message that the server will answer with ReadyForQuery. */
  get mark(): number {
    return this.#sent;
  }

  /** The server is ready, having carried out all that was sent before `mark` was taken. */
  ready(mark: number, inTransaction: boolean): void {
    if (mark > this.#answered) this.#answered = mark;
    if (inTransaction || mark !== this.#sent || this.#unsettled === undefined) return;
    this.#unsettled = undefined;
    this.#source.changed();
  }

  #context(own: SentNames, quiet: boolean): NameContext | undefined {
    const catalog = this.#source.catalog();
    const snapshot = catalog.current();
    if (snapshot === undefined) return undefined;
    const setting = quiet && !this.#otherRole ? this.#parameters.get('search_path') : undefined;
    const path = setting === undefined ? undefined : parsePath(setting, snapshot.user);
    const { unsettled, temporary } = own;
    if (unsettled === undefined) return catalog.context(snapshot, path, temporary);
    const settled = catalog.context(snapshot, path, temporary);
    const known = this.#contexts.get(unsettled);
    if (known?.settled === settled) return known.context;
    const context: NameContext = { snapshot, path, temporary, unsettled };
    this.#contexts.set(unsettled, { settled, context });
    return context;
  }
}

interface Sent {
  names: Map<string, Set<string>>;
  anything: boolean;
}

/** What statements do to names, one after the other. */
class SentNames {
  #unsettled: Sent | undefined;
  #own = false;
  temporary: boolean;

  constructor(unsettled: Sent | undefined, temporary: boolean) {
    this.#unsettled = unsettled;
    this.temporary = temporary;
  }

  get unsettled(): Sent | undefined {
    return this.#unsettled;
  }

  /** `command`: its names resolved as far as they can be. */
  add(command: SqlCommand): void {
    const defined: [name: string, schemas: readonly string[]][] = [];
    let anything = false;
    for (const { action, object } of command.effects) {
      if (action === 'Define') {
        const name = object[object.length - 1] ?? '*';
        if (name === '*') anything = true;
        else defined.push([name, schemasOf(command, object)]);
      } else if (action === 'Grant') anything = true;
      else if (action === 'Execute' && runsCode(object)) this.temporary = true;
    }
    if (defined.length === 0 && !anything) return;
    this.temporary = true;
    const before = this.#unsettled;
    if (!this.#own) {
      const names = new Map([...(before?.names ?? [])].map(([name, schemas]) => [name, new Set(schemas)]));
      this.#unsettled = { names, anything: before?.anything ?? false };
      this.#own = true;
    }
    const mine = this.#unsettled!;
    if (anything || mine.names.size + defined.length > MOST_NAMES) mine.anything = true;
    else {
      for (const [name, schemas] of defined) {
        mine.names.set(name, new Set([...(mine.names.get(name) ?? []), ...schemas]));
      }
    }
  }
}

/** Where what a Define effect is on has its name; `*`: not known, or no relation. */
function schemasOf(command: SqlCommand, [schema, name]: readonly string[]): readonly string[] {
  const use = command.facts.relations.find(
    (one) => one.access === 'Define' && one.name === name && (one.schema ?? '*') === schema,
  );
  if (use === undefined) return ['*'];
  if (use.schema === undefined) return use.schemas ?? ['*'];
  return [use.schema.startsWith('pg_temp_') ? 'pg_temp' : use.schema];
}

/** Whether an Execute effect on it may run code of the database's own, or text. */
function runsCode(object: readonly string[]): boolean {
  const [schema, name] = object;
  if (object.length !== 2 || schema === undefined || name === undefined) return true;
  return functionKind(schema === '*' ? undefined : schema, name) !== 'Guarded';
}

const PATH_SETTINGS = new Set(['search_path', 'role', 'session_authorization', '*']);

function changesRole({ facts, effects }: SqlCommand): boolean {
  if (facts.session?.kind === 'DiscardAll') return true;
  if (facts.settings?.some(({ name }) => name !== 'search_path' && PATH_SETTINGS.has(name)) === true) return true;
  return effects.some(({ action, object }) => action === 'Execute' && runsCode(object));
}

/** Whether the search_path may be another once it has run. */
function disturbs(command: SqlCommand): boolean {
  const { facts, effects } = command;
  if (facts.relations.length > 0) return true;
  if (effects.some(({ action }) => action === 'Execute' || action === 'Define' || action === 'Grant')) return true;
  if (facts.settings?.some(({ name }) => PATH_SETTINGS.has(name)) === true) return true;
  switch (facts.session?.kind) {
    case undefined:
    case 'Begin':
    case 'Listen':
    case 'Unlisten':
    case 'Deallocate':
    case 'CloseCursor':
      return false;
    case 'Set':
      return false; // its settings were looked at
    case 'Reset':
      return facts.session.name === undefined;
    default:
      return true;
  }
}
