import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IdentityProvider } from '../../api/identity-provider.ts';
import type { Condition } from '../../api/schema.ts';
import { providerLines } from './view.ts';

const provider = (name: string, ...conditions: [type: string, status: Condition['status'], message: string][]) =>
  ({
    metadata: { name },
    status: { conditions: conditions.map(([type, status, message]) => ({ type, status, message })) },
  }) as unknown as IdentityProvider;

test('of identity providers only what is wrong is shown, by the condition that says it best', () => {
  assert.equal(providerLines([provider('good', ['Accepted', 'True', 'a'], ['Ready', 'True', 'r'])]), '');
  assert.equal(
    providerLines([
      provider('twice', ['Ready', 'False', 'Not.'], ['Accepted', 'False', 'Claimed twice.']),
      provider(
        'away',
        ['Accepted', 'True', 'a'],
        ['Ready', 'True', 'fetched 1h ago'],
        ['KeysFresh', 'False', 'No way.'],
      ),
      provider('psql', ['Ready', 'True', 'r'], ['Login', 'False', 'No device flow.\u001b[2J']),
    ]),
    'IdentityProvider twice: Claimed twice.\nIdentityProvider away: No way.\nIdentityProvider psql: No device flow.\\u{1b}[2J\n',
  );
});
