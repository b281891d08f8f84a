// What `sallyport local` shows: a table of Connections with where they are reached and what is in their way, and what
// keeps identity providers from being believed, and every problem of a file with its line. Pure.
import type { Connection } from '../../api/connection.ts';
import type { IdentityProvider } from '../../api/identity-provider.ts';
import type { AccessPolicy, ClusterAccessPolicy } from '../../api/policy.ts';
import { connectionState } from '../connection-state.ts';
import { line, table } from '../render.ts';
import type { FileProblemView } from './api-types.ts';

export function connectionTable(
  connections: readonly Connection[],
  policies: readonly (AccessPolicy | ClusterAccessPolicy)[],
): string {
  if (connections.length === 0)
    return 'The directory defines no Connection yet. Add one as YAML: docs/local.md shows how; the directory is watched.\n';
  const rows = [...connections]
    .sort((a, b) =>
      `${a.metadata.namespace}/${a.metadata.name}` < `${b.metadata.namespace}/${b.metadata.name}` ? -1 : 1,
    )
    .map((each) => {
      const { word, problem } = connectionState(each);
      const endpoint = each.status?.endpoint;
      return [
        each.metadata.namespace ?? '',
        each.metadata.name,
        each.spec.type,
        endpoint ? `${endpoint.host}:${endpoint.port}` : '-',
        word,
        problem,
      ];
    });
  const shown = table(['NAMESPACE', 'CONNECTION', 'TYPE', 'ENDPOINT', 'STATE', 'PROBLEM'], rows);
  const rejected = policies.filter((policy) =>
    policy.status?.conditions?.some((each) => each.type === 'Accepted' && each.status === 'False'),
  );
  return (
    shown +
    rejected
      .map((policy) => {
        const why = policy.status!.conditions!.find((each) => each.type === 'Accepted')!.message;
        return `${policy.kind} ${policy.metadata.namespace ? `${policy.metadata.namespace}/` : ''}${policy.metadata.name} is not accepted: ${line(why)}\n`;
      })
      .join('')
  );
}

/** What keeps tokens from being believed, or people from logging in, one line each; nothing where all is well. */
export function providerLines(providers: readonly IdentityProvider[]): string {
  return providers
    .flatMap(({ metadata, status }) => {
      // A refused one says the same in every condition; keys that can not be had say it best.
      const told = ['Accepted', 'KeysFresh', 'Ready', 'Login'].map((type) =>
        status?.conditions?.find((condition) => condition.type === type && condition.status === 'False'),
      );
      const wrong = told.find((condition) => condition !== undefined);
      return wrong === undefined ? [] : [`IdentityProvider ${metadata.name}: ${line(wrong.message)}\n`];
    })
    .join('');
}

export function problemLines(problems: readonly FileProblemView[]): string {
  return problems
    .map((each) => {
      const where = `${each.file}${each.line === undefined ? '' : `:${each.line}`}${each.column === undefined ? '' : `:${each.column}`}`;
      const field = each.field ? ` ${each.field}:` : '';
      return `${where}: ${each.severity}:${field} ${line(each.message)}${each.hint ? `; ${line(each.hint)}` : ''}\n`;
    })
    .join('');
}
