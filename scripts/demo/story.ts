// How the demo speaks: headings, the commands it runs as a person would type them, and their real output.
import { styleText } from 'node:util';
import type { CliOptions, CliResult, Local } from '../../test/support/local.ts';

const colours = process.stdout.isTTY === true && !process.env.NO_COLOR;
const paint = (style: Parameters<typeof styleText>[0], text: string): string =>
  colours ? styleText(style, text, { validateStream: false }) : text;

const started = performance.now();

export function heading(text: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(5);
  console.log(`\n${paint('bold', text)}  ${paint('dim', `${seconds} s`)}`);
}

export function say(text: string): void {
  console.log(text);
}

export function indented(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => `   ${line}`)
    .join('\n');
}

/** Prints a command line as typed. */
export function typed(command: string): void {
  console.log(` ${paint('cyan', '$')} ${paint('cyan', command)}`);
}

function shellWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Runs a verb, shows it and what it printed. Throws if it exits with anything but `expect`. */
export async function run(
  local: Local,
  args: readonly string[],
  options: CliOptions & { expect?: number; lines?: number } = {},
): Promise<CliResult> {
  const identity =
    options.as === undefined
      ? []
      : ['--as', options.as, ...(options.groups ? ['--groups', options.groups.join(',')] : [])];
  const dashes = args.indexOf('--');
  const shown = dashes < 0 ? [...args, ...identity] : [...args.slice(0, dashes), ...identity, ...args.slice(dashes)];
  typed(`sallyport ${shown.map(shellWord).join(' ')}`);
  const result = await local.cli(args, { ...options, together: true });
  const output = result.output.trimEnd().split('\n');
  const kept =
    options.lines === undefined || output.length <= options.lines
      ? output
      : [...output.slice(0, options.lines), `… ${output.length - options.lines} more lines`];
  if (kept.join('') !== '') console.log(indented(kept.join('\n')));
  const expected = options.expect ?? 0;
  if (result.code !== expected) throw new Error(`that was to exit with ${expected} but exited with ${result.code}`);
  return result;
}

export function check(condition: boolean, claim: string): void {
  if (!condition) throw new Error(`not so: ${claim}`);
  console.log(` ${paint('green', '✓')} ${claim}`);
}
