// The demo's database and the YAML its team would commit.
import { connectionYaml } from '../../test/support/local.ts';
import type { PostgresServer } from '../../test/support/postgres.ts';

const PASSWORD = 'writer-password-nobody-sees';

export const setupSql = `
create role orders_writer login password '${PASSWORD}';
create table cards (id int primary key, holder text not null, number text not null, email text not null);
insert into cards values
  (1, 'Ada Obi', '4111111111111111', 'ada.obi@example.com'),
  (2, 'Ben Ito', '5500005555555559', 'ben.ito@example.com');
create table orders (id int primary key, card_id int references cards, amount numeric(10,2), state text not null default 'new');
insert into orders select g, 1 + g % 2, g * 1.25, 'new' from generate_series(1, 1000) g;
grant select on cards to orders_writer;
grant select, insert, update, delete on orders to orders_writer;
alter table orders owner to orders_writer;
`;

const POLICY = `apiVersion: sallyport.dev/v1alpha1
kind: AccessPolicy
metadata: {name: orders-team, namespace: payments}
spec:
  connectionSelector: {names: [orders-db]}
  subjects:
  - {kind: Group, name: orders-team}
  accounts: [writer]
  maxDuration: 8h
  approval:
    timeout: 30m
    steps:
    - name: dba
      approvers:
      - {kind: Group, name: dba}
  rules:
  - name: read-write
    preset: ReadWrite
  - name: no-ddl
    action: Deny
    sql: {effects: [Define, Grant]}
    message: Schema changes go through migrations.
  - name: unbounded-write
    action: Hold
    sql: {unbounded: true}
    hold:
      approvers:
      - {kind: Group, name: dba}
      timeout: 60s
  masking:
  - name: card-numbers
    columns: ["public.cards.number"]
    with: Last4
  - name: addresses
    columns: ["*.*.email"]
    with: Email
`;

/** File name to YAML. */
export function access(server: PostgresServer): Record<string, string> {
  return {
    'connection.yaml': connectionYaml(server, {
      database: 'orders',
      accounts: { writer: { username: 'orders_writer', password: PASSWORD } },
    }),
    'policy.yaml': POLICY,
  };
}
