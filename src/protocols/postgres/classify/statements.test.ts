import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { before, test } from 'node:test';
import { CORPUS } from '../../../../test/fuzz/classify-corpus.ts';
import type { ClassifiedStatement } from '../statement.ts';
import { classify, loadClassifier } from './classify.ts';
import { STATEMENT_KINDS } from './statements.ts';
import { TAGS } from './tags.ts';
import { unwrap } from './tree.ts';

before(loadClassifier);

function one(sql: string): ClassifiedStatement {
  const result = classify(sql);
  assert.equal(result.kind, 'Statements', `${sql}: ${result.kind === 'NotUnderstood' ? result.reason : ''}`);
  assert.ok(result.kind === 'Statements' && result.statements.length === 1, sql);
  return result.statements[0]!;
}

const effectsOf = (statement: ClassifiedStatement): string[] =>
  statement.command.effects.map(({ action, object }) => [action, object.join('.')].filter(Boolean).join(' ')).sort();

test('every statement of the corpus has its tag, its effects and its node kind', () => {
  for (const entry of CORPUS) {
    const statement = one(entry.sql);
    assert.equal(statement.command.verb, entry.tag, entry.sql);
    assert.equal(unwrap(statement.tree)?.kind, entry.kind, entry.sql);
    assert.deepEqual(effectsOf(statement), entry.effects.split(', ').sort(), entry.sql);
    assert.equal(statement.command.text, entry.sql);
    assert.ok(TAGS.includes(entry.tag), `${entry.tag} is a known tag`);
  }
});

test('INV-02: every kind of raw statement in the parser’s own types is handled and in the corpus', () => {
  const require = createRequire(import.meta.url);
  const file = require.resolve('@pgsql/types/package.json', { paths: [require.resolve('libpg-query')] });
  const types = fs.readFileSync(file.replace('package.json', 'types.d.ts'), 'utf8');
  const kinds = [...types.matchAll(/^export interface ([A-Za-z]+Stmt) /gm)].map((match) => match[1]!);
  // Parts of other statements, and PL/pgSQL's own.
  const parts = new Set(['RawStmt', 'SetOperationStmt', 'ReturnStmt', 'PLAssignStmt', 'ReplicaIdentityStmt']);
  const raw = kinds.filter((kind) => !parts.has(kind));
  assert.ok(raw.length > 110, `${raw.length} kinds`);
  const handled = new Set(STATEMENT_KINDS());
  const covered = new Set(CORPUS.map((entry) => entry.kind));
  assert.deepEqual(
    raw.filter((kind) => !handled.has(kind)),
    [],
  );
  assert.deepEqual(
    raw.filter((kind) => !covered.has(kind)),
    [],
  );
});
