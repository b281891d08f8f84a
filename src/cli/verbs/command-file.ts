// Statements of a file that are to be approved with a request. Read by PostgreSQL's own parser, so that they are cut
// where psql cuts them; a client that sends them one by one, as `psql -f` does, sends exactly these.
import { readFileSync } from 'node:fs';
import { type DetectorKind, maskDetectedText } from '../../policy/detectors/detectors.ts';
import { bareStatement } from '../../protocols/postgres/command-hash.ts';
import { mayHoldSecret } from '../../protocols/postgres/masking/redact.ts';
import { CliError, EXIT } from '../io.ts';

/** Bounds of `AccessGrant.spec.commands`; the object as a whole has some 200 KiB to give. */
const MOST_STATEMENTS = 256;
const LONGEST_STATEMENT = 65_536;
const MOST_CHARACTERS = 200_000;

/** What no request may carry; addresses and telephone numbers do occur in migrations. */
const SECRET_KINDS: readonly DetectorKind[] = ['Card', 'Iban', 'Ssn', 'Jwt', 'PrivateKey', 'ApiKey'];

const refused = (file: string, why: string, hint: string): CliError =>
  new CliError(EXIT.misconfigured, `${file}: ${why}`, hint);

/** The statements of a file of SQL, without the semicolons. Throws CliError. */
export async function readStatements(file: string): Promise<string[]> {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    throw refused(file, error instanceof TypeError ? 'it is not UTF-8' : String(error), 'Name a file of SQL.');
  }
  const { classify, loadClassifier } = await import('../../protocols/postgres/classify/classify.ts');
  await loadClassifier();
  const outcome = classify(text);
  if (outcome.kind === 'NotUnderstood') {
    const line =
      outcome.syntax === undefined ? '' : ` (line ${text.slice(0, outcome.syntax.position).split('\n').length})`;
    throw refused(
      file,
      `it can not be approved statement by statement: ${outcome.reason}${line}`,
      'Only SQL can be: write out what psql’s own commands (\\i, \\set, :variables) would do.',
    );
  }
  const statements = outcome.statements.map(({ command }) => bareStatement(command.text));
  if (statements.length === 0) throw refused(file, 'it holds no statement', 'Name a file of SQL.');
  if (statements.length > MOST_STATEMENTS)
    throw refused(
      file,
      `it holds ${statements.length} statements`,
      `Split it: at most ${MOST_STATEMENTS} are approved with one request.`,
    );
  const long = statements.findIndex((each) => each.length > LONGEST_STATEMENT);
  if (long >= 0 || statements.reduce((sum, each) => sum + each.length, 0) > MOST_CHARACTERS)
    throw refused(file, 'it is too long to be read by an approver', 'Split it.');
  const secret = statements.findIndex((each) => mayHoldSecret(each) || maskDetectedText(each, SECRET_KINDS) !== each);
  if (secret >= 0) {
    throw refused(
      file,
      `statement ${secret + 1} seems to hold a password, key or card number, and requests can be read by others`,
      'Take it out and run that statement by hand: a rule that holds it asks for consent then, with the secret hidden.',
    );
  }
  return statements;
}
