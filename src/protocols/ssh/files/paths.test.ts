import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../../../../test/support/any-text.ts';
import { lexicalForm, problemOfPath, shownPath, splitName } from './paths.ts';

const bytes = fc.uint8Array({ maxLength: 40 }).map((data) => Buffer.from(data).toString('latin1'));
const dotted = fc
  .array(fc.constantFrom('a', 'b', '.', '..', '', '...', ' ', '\xff'), { maxLength: 12 })
  .map((parts) => parts.join('/'));

test('the lexical form is absolute, has no dots, and is its own', () => {
  fc.assert(
    fc.property(fc.oneof(bytes, dotted), fc.constantFrom('/', '/home/u'), (spelled, directory) => {
      const form = lexicalForm(directory, spelled);
      assert.ok(form.startsWith('/'));
      assert.ok(
        form === '/' ||
          form
            .slice(1)
            .split('/')
            .every((part) => !['', '.', '..'].includes(part)),
      );
      assert.equal(lexicalForm('/elsewhere', form), form);
      assert.equal(form, path.posix.resolve(directory, spelled));
    }),
  );
});

test('a name is split from its directory as the target would', () => {
  assert.deepEqual(splitName('/a/b'), { directory: '/a', name: 'b' });
  assert.deepEqual(splitName('/a//b//'), { directory: '/a/', name: 'b' });
  assert.deepEqual(splitName('a'), { directory: '.', name: 'a' });
  assert.deepEqual(splitName('/a'), { directory: '/', name: 'a' });
  for (const none of ['', '/', '//', '.', '..', '/a/..', '/a/.', '/a/../']) assert.equal(splitName(none), undefined);
});

test('what is shown draws nothing and hides nothing', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        bytes,
        anyText({ maxLength: 20 }).map((text) => Buffer.from(text).toString('latin1')),
      ),
      (spelled) => {
        const shown = shownPath(spelled);
        assert.doesNotMatch(shown, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
        assert.match(shown, /^".*"$/s);
        assert.doesNotMatch(shown.slice(1, -1).replaceAll(/\\./gs, ''), /"/);
      },
    ),
  );
  assert.equal(shownPath(Buffer.from('/häuser', 'utf8').toString('latin1')), '"/häuser"');
  assert.equal(shownPath('/a"b\\\xff'), '"/a\\"b\\\\\\xff"');
  // Text that turns the direction of writing.
  assert.equal(shownPath(Buffer.from('a\u202eb', 'utf8').toString('latin1')), '"a\\u{202e}b"');
});

test('NUL and long paths are no paths', () => {
  assert.equal(problemOfPath('/a'), undefined);
  assert.match(problemOfPath('/a\0b') ?? '', /NUL/);
  assert.match(problemOfPath('/'.repeat(4097)) ?? '', /4096/);
});
