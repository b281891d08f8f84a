// What is wrong in a file of the directory, told so that it can be mended without reading anything else.

export interface FileProblem {
  /** Error: what the document says is not in force, and what it could tighten is denied. Warning: it is in force. */
  severity: 'Error' | 'Warning';
  /** Relative to the directory. */
  file: string;
  /** From 1. */
  line: number;
  /** From 1. */
  column: number;
  /** Such as `spec.rules[0].action`; empty where it is about the document or file. */
  field: string;
  message: string;
  /** What to write instead. */
  hint: string;
  /** Such as `AccessPolicy payments/orders-team`, where that can be read. */
  object?: string;
}

/** `orders.yaml:12:5: spec.rules[0].action: "Alow" is none of Allow, Deny, Hold; did you mean Allow?` */
export function formatFileProblem(problem: FileProblem): string {
  const field = problem.field === '' ? '' : `${problem.field}: `;
  return `${problem.file}:${problem.line}:${problem.column}: ${field}${problem.message}; ${problem.hint}`;
}
