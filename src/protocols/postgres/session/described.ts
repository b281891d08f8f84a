// What is known of a command when it is judged and recorded: its text and values as text.
import type { BindMessage } from '../wire/messages.ts';
import type { Described } from './commands.ts';
import type { Prepared } from './types.ts';
import { valueText } from './values.ts';

const NONE: readonly never[] = [];

export function nothingKnown(text: string): Described {
  return { text, parameters: NONE, statements: undefined, masking: undefined };
}

export function preparedText(prepared: Prepared): string {
  if (prepared.statement !== undefined) return prepared.text;
  return (prepared.decoded ??= Buffer.from(prepared.text, 'latin1').toString('utf8'));
}

export function parameterTexts(message: BindMessage, prepared: Prepared): (string | null)[] {
  const { formats, values } = message;
  return values.map((value, i) =>
    valueText(value, formats.length === 1 ? formats[0]! : (formats[i] ?? 0), prepared.parameterTypes[i] ?? 0),
  );
}
