// `sallyport preset [NAME]`: prints the rules that a preset stands for.
import { nearest } from '../../api/nearest.ts';
import { explainPreset, presetNames } from '../../policy/presets.ts';
import type { ProtocolRules } from '../../policy/session-policy.ts';
import { safeText } from '../../policy/wording.ts';
import { CliError, EXIT, type ExitCode, type Io } from '../io.ts';

export interface PresetArgs {
  /** Absent: lists the names. */
  name?: string | undefined;
}

/** Rules of a type of Connections, by the name a person gave it. */
export async function presetRules(type = 'PostgreSQL'): Promise<ProtocolRules> {
  if (type === 'PostgreSQL') return (await import('../../protocols/postgres/rules.ts')).postgresRules;
  if (type === 'SSH') return (await import('../../protocols/ssh/rules.ts')).sshRules;
  throw new CliError(EXIT.misconfigured, `There is no type ${safeText(type)}`, 'Write one of PostgreSQL, SSH.');
}

export function preset(args: PresetArgs, io: Io, rules: ProtocolRules): ExitCode {
  if (args.name === undefined) {
    io.out(
      presetNames(rules)
        .map((name) => `${name}\n`)
        .join(''),
    );
    return EXIT.ok;
  }
  const text = explainPreset(rules, args.name);
  if (text === undefined) {
    const close = nearest(args.name, presetNames(rules));
    throw new CliError(
      EXIT.misconfigured,
      `There is no preset ${safeText(args.name)}`,
      close === undefined ? `Write one of ${presetNames(rules).join(', ')}.` : `Did you mean ${close}?`,
    );
  }
  io.out(text);
  return EXIT.ok;
}
