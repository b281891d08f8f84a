import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { CORPUS } from '../../../../test/fuzz/classify-corpus.ts';
import { commandTitle } from '../../../policy/wording.ts';
import { classify, loadClassifier } from './classify.ts';

before(loadClassifier);

function titles(sql: string): string[] {
  const result = classify(sql);
  if (result.kind === 'NotUnderstood') assert.fail(`${sql}: ${result.reason}`);
  return result.statements.map(({ command }) => commandTitle(command));
}

test('titles say what a statement is once', () => {
  for (const [sql, title] of [
    ["do 'begin end'", 'DO'],
    ['begin', 'BEGIN'],
    ['checkpoint', 'CHECKPOINT'],
    ['call app.close_month()', 'CALL app.close_month'],
    ['set role x', 'SET role x'],
    ['set statement_timeout = 1', 'SET statement_timeout'],
    ['listen jobs', 'LISTEN jobs'],
    ['copy t from stdin', 'COPY on t'],
    ['update app.orders set a = 1', 'UPDATE on app.orders'],
    ['drop table app.orders', 'DROP TABLE app.orders'],
    ['drop function app.f(int)', 'DROP FUNCTION app.f'],
    ['create role bob', 'CREATE ROLE bob'],
    ['grant admin to bob', 'GRANT ROLE admin'],
    ['grant select on orders to bob', 'GRANT on orders'],
    ['create access method m type index handler h', 'CREATE ACCESS METHOD m'],
    ['drop table "table"', 'DROP TABLE table'],
    ['delete from "delete"', 'DELETE on delete'],
  ] as const) {
    assert.deepEqual(titles(sql), [title], sql);
  }
});

test('no title of any kind of statement repeats a word of its verb as an object', () => {
  for (const { sql, tag } of CORPUS) {
    for (const title of titles(sql)) {
      const object = title.slice(tag.length).replace(/^ on/, '').trim().split(/[ .,]/)[0];
      assert.ok(object === '' || !tag.toLowerCase().split(' ').includes(object!), title);
    }
  }
});
