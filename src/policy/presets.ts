// Presets are ordinary rules; printed, they can be read, copied and changed.
import { stringify } from 'yaml';
import type { ProtocolRules } from './session-policy.ts';

/**
 * The rules of a preset as YAML, ready to paste under `spec.rules`; undefined if the protocol has no such preset.
 * A Hold is printed with an empty list of approvers: who consents is the author's to say.
 */
export function explainPreset(rules: ProtocolRules, name: string): string | undefined {
  const preset = Object.hasOwn(rules.presets, name) ? rules.presets[name] : undefined;
  if (preset === undefined) return undefined;
  const head = `# Preset ${name}: a rule with \`preset: ${name}\` stands for these rules.\n`;
  return (
    head +
    stringify(
      {
        rules: preset.map(({ name: rule, action, matcher, message }) => ({
          name: rule,
          action,
          ...(matcher === undefined ? {} : { [rules.member]: matcher }),
          ...(message === undefined ? {} : { message }),
          ...(action === 'Hold' ? { hold: { approvers: [] } } : {}),
        })),
      },
      { lineWidth: 120, aliasDuplicateObjects: false },
    )
  );
}

export function presetNames(rules: ProtocolRules): string[] {
  return Object.keys(rules.presets);
}
