// `sallyport preset [NAME]`: prints the rules that a preset stands for.
import { explainPreset, presetNames } from '../../policy/presets.ts';
import type { ProtocolRules } from '../../policy/session-policy.ts';
import { EXIT, type ExitCode, type Io } from '../io.ts';

export interface PresetArgs {
  /** Absent: lists the names. */
  name?: string | undefined;
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
    io.err(`There is no preset ${args.name}\nWrite one of ${presetNames(rules).join(', ')}.\n`);
    return EXIT.misconfigured;
  }
  io.out(text);
  return EXIT.ok;
}
