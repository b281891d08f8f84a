// The seam between the PostgreSQL session and masking. The session asks three questions: may this statement run
// (before anything reaches the server), what of its answer must change (when the server described it), and what of
// an error or notice may pass. Everything not proven clear is masked or refused.
import type { CompiledMask } from '../../../policy/bundle.ts';
import type { RuleRef } from '../../../policy/decision.ts';
import type { ClassifiedStatement } from '../statement.ts';

/** One column of a server's RowDescription. */
export interface FieldOrigin {
  name: string;
  tableOid: number;
  attributeNumber: number;
  typeOid: number;
  /** 0 text, 1 binary. */
  format: number;
}

/** Masks of one session, resolved against the catalog of its database. Made by `MaskingCatalog.resolve`. */
export interface SessionMasking {
  /** Judges one statement before it is sent. */
  review(statement: ClassifiedStatement): MaskReview;
  /**
   * Plans a result once its description is known. `Unknown`: a relation the catalog has not seen; refresh and ask
   * again before any row passes. The session must hold rows back until it has a plan.
   */
  plan(review: MaskReview, fields: readonly FieldOrigin[]): RowPlan;
  /** Plans the rows of COPY TO STDOUT, which come without a description; its masker takes CopyData messages. Never `Unknown`. */
  planCopy(statement: ClassifiedStatement): RowPlan;
  /** Version of the catalog it was resolved against; a review of an older version is void. */
  readonly catalogVersion: number;
  /** Literals of a statement hidden for records and approvers; parameters compared with masked columns too. */
  redact(
    statement: ClassifiedStatement | undefined,
    text: string,
    parameters: readonly (string | null)[],
  ): RedactedCommand;
  /** Hides what detectors recognise in free text (errors, notices, names). */
  scrub(text: string): string;
}

export interface RedactedCommand {
  text: string;
  parameters: (string | null)[];
  hiddenLiterals: number;
}

export type MaskReview =
  /** Touches nothing masked: rows and errors pass untouched but for detectors. */
  | { kind: 'Clear' }
  /** Touches masked relations soundly: apply `plan` to every result and `rebuild` errors and notices. */
  | { kind: 'Masked'; relations: readonly string[] }
  | { kind: 'Refused'; column: string | undefined; by: RuleRef; message: string; hint: string };

export type RowPlan =
  | { kind: 'Pass' }
  | { kind: 'Mask'; masker: RowMasker; origins: readonly string[] }
  | { kind: 'Unknown'; tableOid: number }
  | { kind: 'Refused'; column: string | undefined; by: RuleRef | undefined; message: string; hint: string };

/** Rewrites DataRow or CopyData messages. Works on whole messages (type byte and length included). */
export interface RowMasker {
  /** The same buffer if nothing changed. Throws MaskingError on a malformed row: the session then ends. */
  mask(dataRow: Buffer): Buffer;
  /** Values replaced so far. */
  readonly count: number;
}

export class MaskingError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'MaskingError';
  }
}

/** Runs a query on the side connection, with the session's own account. Rows are text. Rejects with Error. */
export type CatalogQuery = (sql: string) => Promise<(string | null)[][]>;
/** The server's origin report for a query, by Parse and Describe on the side connection; nothing runs. */
export type CatalogDescribe = (sql: string) => Promise<FieldOrigin[]>;

/** One per (connection, account, database); shared by its sessions. */
export interface MaskingCatalog {
  /** At most 2 s old unless `force`. Rejects when the side connection fails: masked sessions then refuse commands. */
  refresh(force: boolean): Promise<void>;
  /** Something that may have changed the schema passed: the next review needs a new catalog. */
  invalidate(): void;
  readonly stale: boolean;
  resolve(masks: readonly CompiledMask[], trustedFunctions: readonly string[]): SessionMasking;
}
