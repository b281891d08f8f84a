// A relay of our own for tests: decides by a function, keeps what was judged and how it ended.
import type { FilterHost, Verdict } from '../../channels/filter.ts';
import type { FileFacts, SshCommand } from '../../facts.ts';

export type Ruling = 'Run' | 'Refuse' | 'Gone';

export interface FakeHost extends FilterHost {
  judged: { id: number; command: SshCommand; facts: FileFacts; ruling: Ruling }[];
  results: Map<number, Parameters<FilterHost['result']>[1]>;
  told: string[];
  failed: { side: 'Client' | 'Target'; text: string } | undefined;
  finished: number | undefined;
  targetEof: boolean;
}

export function createFakeHost(options: {
  toTarget: (data: Buffer) => void;
  toClient: (data: Buffer) => void;
  eofToTarget?: () => void;
  failed?: (side: 'Client' | 'Target', text: string) => void;
  rule?: (facts: FileFacts, command: SshCommand) => Ruling | Promise<Ruling>;
}): FakeHost {
  let next = 0;
  const host: FakeHost = {
    channel: 3,
    user: 'deploy',
    judged: [],
    results: new Map(),
    told: [],
    failed: undefined,
    finished: undefined,
    targetEof: false,
    toTarget: options.toTarget,
    toClient: options.toClient,
    tell: (line) => host.told.push(line),
    async judge(command): Promise<Verdict> {
      if (command.facts.kind !== 'File') throw new Error('not about files');
      next += 1;
      const id = next;
      const ruling = await (options.rule?.(command.facts, command) ?? 'Run');
      host.judged.push({ id, command, facts: command.facts, ruling });
      if (ruling === 'Run') return { kind: 'Run', id };
      if (ruling === 'Gone') return { kind: 'Gone' };
      return { kind: 'Refused', id, lines: [`Sallyport refused ${command.verb}.`] };
    },
    result(id, body) {
      if (host.results.has(id)) throw new Error(`two results of ${id}`);
      host.results.set(id, body);
    },
    finish: (exitStatus) => {
      host.finished = exitStatus;
    },
    eofToTarget() {
      if (host.targetEof) throw new Error('EOF twice');
      host.targetEof = true;
      options.eofToTarget?.();
    },
    fail(side, text) {
      host.failed = { side, text };
      options.failed?.(side, text);
    },
  };
  return host;
}

/** Permits what lies below these, by both forms; a subtree must lie below as well. */
export function below(...roots: readonly string[]): (facts: FileFacts) => Ruling {
  const inside = (path: string): boolean => roots.some((root) => path === root || path.startsWith(`${root}/`));
  return (facts) =>
    facts.access.every(({ path, resolved }) => inside(path) && (resolved === undefined || inside(resolved)))
      ? 'Run'
      : 'Refuse';
}
