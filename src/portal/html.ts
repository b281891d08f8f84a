// Templates whose every value is escaped, so that no field of any object can become markup. What is inserted is text, in
// element content and in quoted attributes alike; markup comes from this template alone or from what it made before.
// Guarantees: no control, bidi-override or invisible character of a value reaches the page as itself, so that a name can
// not pose as another. Does not make unquoted attributes, URLs of other schemes, scripts or styles safe: none is made.

/** Markup that this module made. */
export class Markup {
  readonly text: string;
  private constructor(text: string) {
    this.text = text;
  }
  static of(strings: TemplateStringsArray, values: readonly Insert[]): Markup {
    let text = strings[0] ?? '';
    values.forEach((value, index) => {
      text += render(value) + (strings[index + 1] ?? '');
    });
    return new Markup(text);
  }
}

/** `false` and undefined insert nothing. */
export type Insert = string | number | Markup | false | undefined | readonly Insert[];

export function html(strings: TemplateStringsArray, ...values: Insert[]): Markup {
  return Markup.of(strings, values);
}

function render(value: Insert): string {
  if (value === undefined || value === false) return '';
  if (value instanceof Markup) return value.text;
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return escape(value);
  return value.map(render).join('');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '`': '&#96;',
};

export function escape(text: string): string {
  return visible(text).replace(/[&<>"'`]/g, (character) => ENTITIES[character]!);
}

/** Characters that would not be seen, or would reorder what is seen, shown as their code points; lines and tabs stay. */
export function visible(text: string): string {
  return text
    .toWellFormed()
    .replace(
      /(?![\n\t])[\p{Cc}\p{Default_Ignorable_Code_Point}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu,
      (character) => `\u27e8U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}\u27e9`,
    );
}
