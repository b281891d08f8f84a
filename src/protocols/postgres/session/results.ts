// Readings of what the server answers with, and of what its results are planned to become. Pure but for what masks cache.
import type { Entry } from '../ledger.ts';
import { rebuildError } from '../masking/errors.ts';
import type { RowPlan, SessionMasking } from '../masking/masking.ts';
import { BACKEND } from '../wire/messages.ts';
import type { Item, Run } from './types.ts';

export function runOf(entry: Entry<Item> | undefined): Run | undefined {
  return entry?.value.kind === 'Run' ? entry.value.run : undefined;
}

export function itemRun(item: Item): Run | undefined {
  return item.kind === 'Run' ? item.run : item.kind === 'Describe' ? item.swallow : undefined;
}

/** The plan of the result that is being described: by the review of the statement that makes it. */
export function planFor(run: Run, masking: SessionMasking): RowPlan {
  const { statements, alternatives } = run.verdict;
  const current = alternatives ? undefined : statements?.[run.completed];
  const readings = current === undefined ? (statements ?? []) : [current];
  const plans = readings.map((statement) => masking.plan(masking.review(statement), run.fields ?? []));
  const only = plans[0];
  if (plans.length === 1 && only !== undefined) return only;
  if (plans.length > 0 && plans.every((plan) => plan.kind === 'Pass')) return plans[0]!;
  return plans.find((plan) => plan.kind === 'Refused') ?? plans.find((plan) => plan.kind === 'Unknown') ?? undecided();
}

export function undecided(): RowPlan {
  return {
    kind: 'Refused',
    column: undefined,
    by: undefined,
    message: 'Sallyport refused the result: it can not be told which statement it belongs to',
    hint: 'Wait for the answer to Parse before using the name again.',
  };
}

export function rebuilt(fields: Record<string, string>): Record<string, string> {
  const kept = rebuildError(Object.entries(fields).map(([code, value]) => ({ code, value })));
  return Object.fromEntries(kept.map(({ code, value }) => [code, value]));
}

/** COPY's rows are no DataRows; its tag counts them. */
export function copiedRows(tag: string | undefined): number | undefined {
  const count = tag === undefined ? null : /^COPY ([0-9]{1,15})$/.exec(tag);
  return count === null ? undefined : Number(count[1]);
}

export function isEnd(type: number): boolean {
  return type === BACKEND.CommandComplete || type === BACKEND.EmptyQueryResponse || type === BACKEND.PortalSuspended;
}

/** Binary values of small integers are full of NULs and control bytes; text never is. */
export function guessFormat(value: Buffer | null): number {
  if (value === null) return 0;
  for (let i = 0; i < value.length && i < 8; i += 1) if (value[i]! < 9) return 1;
  return 0;
}
