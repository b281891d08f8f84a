// Runs acceptance criteria, one line each with the figure it measured, and ends the process with their verdict.
import { styleText } from 'node:util';
import type { CriteriaGroup } from './criterion.ts';

const colours = process.stdout.isTTY === true && !process.env.NO_COLOR;
const paint = (ok: boolean, text: string): string => (colours ? styleText(ok ? 'green' : 'red', text) : text);

async function runGroup(group: CriteriaGroup): Promise<number> {
  let failed = 0;
  const line = (ok: boolean, claim: string, figure: string): void => {
    if (!ok) failed += 1;
    console.log(`${paint(ok, ok ? 'ok  ' : 'FAIL')}  ${claim}  [${figure}]`);
  };
  try {
    await group.start?.();
  } catch (error) {
    for (const { claim } of group.criteria) line(false, claim, `could not start: ${String(error).split('\n')[0]}`);
    await group.stop?.().catch(() => undefined);
    return failed;
  }
  for (const { claim, check } of group.criteria) {
    const started = performance.now();
    const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`;
    try {
      line(true, claim, `${await check()}; ${seconds()}`);
    } catch (error) {
      line(false, claim, `${error instanceof Error ? error.message : String(error)}; ${seconds()}`);
    }
  }
  await group.stop?.();
  return failed;
}

/**
 * Arguments of the process: names of groups to run; none: all. `target` is what people type after `make`. With
 * ACCEPT_SECONDS no group begins later than that, and those left out are named.
 */
export async function runCriteria(target: string, groups: readonly CriteriaGroup[]): Promise<never> {
  const wanted = process.argv.slice(2);
  const unknown = wanted.filter((name) => !groups.some((group) => group.name === name));
  if (unknown.length > 0) {
    console.error(`${target}: no group ${unknown.join(', ')}; there are ${groups.map(({ name }) => name).join(', ')}`);
    process.exit(2);
  }
  const seconds = Number(process.env.ACCEPT_SECONDS ?? Number.POSITIVE_INFINITY);
  let failed = 0;
  for (const group of groups) {
    if (wanted.length > 0 && !wanted.includes(group.name)) continue;
    if (performance.now() / 1000 > seconds) {
      console.log(`# ${group.name}: left out, ${seconds} s are over`);
      continue;
    }
    console.log(`# ${group.name}`);
    failed += await runGroup(group);
  }
  console.log(failed === 0 ? 'Every criterion holds.' : `${failed} criteria do not hold.`);
  process.exit(failed === 0 ? 0 : 1);
}
