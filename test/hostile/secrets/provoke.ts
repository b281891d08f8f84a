// Sessions that try to have secrets written down: in statements, parameters, names, errors, notices and results.
import assert from 'node:assert/strict';
import type pg from 'pg';
import { until } from '../../support/in-process.ts';
import { CARDS, login, NEXT_PASSWORD, PASSWORD, type Place, place, type SecretsBed, STRAY, toldBy } from './bed.ts';

const [first, spaced, dashed, amex, odd, named] = CARDS as [string, string, string, string, string, string];

/** Statements that make the server or the gateway quote what should not be quoted; some succeed, most fail. */
const STATEMENTS: readonly [text: string, parameters?: readonly string[]][] = [
  ['select number from cards order by id'],
  ['select * from cards'],
  ['select number::int from cards'],
  ['select cast(number as date) from cards where id = 6'],
  ["select id from cards where number = '" + named + "'"],
  ['select id from cards where number = $1', [named]],
  ['select upper(number), 1 / 0 from cards'],
  [`insert into cards values (900, '${named}')`],
  ['insert into cards values ($1, $2)', ['901', spaced]],
  [`insert into cards values (902, '${first}'), (903, '${dashed}')`],
  [`insert into cards values (1, '${odd} again')`],
  ["insert into cards values (904, 'CANARY-5150-0042-7777-0')"],
  [`update cards set number = '${amex}' where id = 1`],
  ['update cards set number = (select number from cards where id = 2) where id = 1'],
  [`insert into cards (id, number) values (7, '${odd}-new') returning number`],
  ['select text from notes'],
  ['select text::int from notes'],
  [`insert into notes values (1, 'again ${STRAY}')`],
  ['insert into notes values ($1, $2)', ['1', `a parameter ${STRAY}`]],
  [`select 'a literal ${first}' as literal`],
  ['select $1::text as parameter', [`a parameter ${dashed}`]],
  [`select '${spaced}'::int`],
  ['select spill()'],
  ["do $$ begin raise exception 'from a block %', (select number from cards where id = 6); end $$"],
  ['copy cards to stdout'],
  ['copy (select number from cards) to stdout'],
  ['explain (analyze, verbose) select * from cards where id = 1'],
  ['select row_to_json(c) from cards c'],
  ['declare leak cursor for select number from cards'],
  [`selekt '${first}' from cards`],
  [`select '${dashed}`],
  [`select 1 -- ${first}`],
  [`/* ${spaced} */ select 2`],
  [`set application_name = '${first}'`],
  [`set search_path = '${first}', public`],
  [`select "${first}" from cards`],
  [`select * from "${dashed}"`],
  [`savepoint "${first}"`],
  [`prepare leak as select '${amex}'`],
  ['begin; select number from cards; select 1/0; commit'],
  ['rollback'],
  ['delete from notes'], // is held, and nobody approves
  [`delete from notes where text <> '${STRAY}' or true`],
];

/** All of it by one person; what the client was told, errors and rows. */
export async function provoke(client: pg.Client, who: string): Promise<{ errors: Place[]; rows: Place[] }> {
  const errors: Place[] = [];
  const rows: Place[] = [];
  client.on('notice', (notice) => errors.push(place(`a notice to ${who}`, toldBy(notice))));
  for (const [text, parameters] of STATEMENTS) {
    const told = await client.query(text, parameters as string[] | undefined).then(
      (result) => void rows.push(place(`rows of ${text} for ${who}`, JSON.stringify(([] as unknown[]).concat(result)))),
      (error: Error) => error,
    );
    if (told !== undefined)
      errors.push(place(`the error of ${text} for ${who}`, withoutOwnWords(toldBy(told), text, parameters)));
  }
  assert.ok(errors.length > 10, `only ${errors.length} errors were provoked`);
  return { errors, rows };
}

/** An error may repeat what the client itself just wrote, such as an unknown name; that tells it nothing. */
function withoutOwnWords(told: string, text: string, parameters: readonly string[] = []): string {
  const own = [text, ...parameters].join(' ').match(/[0-9][0-9 -]{11,}[0-9]|CANARY[0-9-]+/g) ?? [];
  return own.reduce((rest, word) => rest.replaceAll(word, '(own words)'), told);
}

/** Logins with secrets where they do not belong; all are refused or harmless. */
export async function strangeLogins({ alice }: SecretsBed, secrets: readonly string[]): Promise<Place[]> {
  const places: Place[] = [];
  const { default: pgClient } = await import('pg');
  for (const secret of secrets) {
    for (const [what, more] of [
      ['user', { user: secret }],
      ['database', { database: secret }],
      ['password', { password: secret }],
      ['application name', { application_name: secret }],
      ['setting', { options: `-c search_path=${secret.replaceAll(' ', '\\ ')}` }],
    ] as const) {
      const client = new pgClient.Client({ ...alice.login(), ...more });
      client.on('error', () => undefined);
      const error = await client.connect().then(
        () =>
          client.query('select 1').then(
            () => undefined,
            (failed: Error) => failed,
          ),
        (refused: Error) => refused,
      );
      await client.end().catch(() => undefined);
      if (error !== undefined)
        places.push(place(`login with a secret as ${what}`, withoutOwnWords(toldBy(error), secret)));
    }
  }
  return places;
}

/** Logins while the target refuses the password, is down, or may not be sent the password. */
export async function brokenTarget(bed: SecretsBed): Promise<Place[]> {
  const places: Place[] = [];
  const { default: pgClient } = await import('pg');
  const { local, alice } = bed;
  for (const [what, files, expected] of [
    ['a wrong password', bed.connectionFiles({ password: NEXT_PASSWORD }), /password|credential|refused|account/i],
    ['no server', bed.connectionFiles({ port: 9 }), /reach|refused|connect/i],
    ['a host the secret may not go to', bed.connectionFiles({ hosts: 'elsewhere.example:5432' }), /./],
  ] as const) {
    local.write('connection.yaml', files);
    const message = await until(`a login to fail by ${what}`, async () => {
      const client = new pgClient.Client(alice.login());
      client.on('error', () => undefined);
      return client.connect().then(
        () => client.end().then(() => undefined),
        (error: Error) => toldBy(error),
      );
    });
    assert.match(message, expected, what);
    places.push(place(`a login with ${what}`, message));
    const listed = await local.cli(['ls', '-A', '-o', 'json']);
    places.push(place(`ls with ${what}`, listed.stdout + listed.stderr));
  }
  local.write('connection.yaml', bed.connectionFiles());
  await (await login(alice)).end();
  return places;
}

/** Secrets as people mistype them: quoted by no error of the daemon's or the linter's. */
export async function brokenSecrets({ local }: SecretsBed): Promise<Place[]> {
  const places: Place[] = [];
  const spoilt = [
    `password: *${PASSWORD}`,
    `password: !${PASSWORD} x`,
    `password: @${PASSWORD}`,
    `password: "${PASSWORD}`,
    `password: "\\q${PASSWORD}"`,
    `password: [${PASSWORD}`,
    `password: {${PASSWORD}: ${PASSWORD}}`,
    `password: ${PASSWORD}: ${PASSWORD}`,
    `${PASSWORD}: password`,
    `password: ${PASSWORD}\n  password: ${PASSWORD}`,
    `password: ${PASSWORD}\n\t${PASSWORD}: x`,
    `- ${PASSWORD}`,
  ];
  for (const [index, line] of spoilt.entries()) {
    local.write(
      `spoilt-${index}.yaml`,
      `apiVersion: v1\nkind: Secret\nmetadata: {name: spoilt-${index}, namespace: payments}\nstringData:\n  username: x\n  ${line}\n  sallyport-hosts: localhost:1\n`,
    );
  }
  local.write(
    'spoilt-name.yaml',
    `apiVersion: v1\nkind: Secret\nmetadata: {name: "${PASSWORD}", namespace: payments, ${PASSWORD}: x}\ndata: {password: "${PASSWORD}"}\n`,
  );
  await until('the files to be read', () => (local.output().includes('spoilt-') ? true : undefined));
  const lint = await local.cli(['policy', 'lint', local.directory]);
  assert.match(lint.stdout, /spoilt-0\.yaml/);
  places.push(place('policy lint of broken Secrets', lint.stdout + lint.stderr));
  const listed = await local.cli(['ls', '-A']);
  places.push(place('ls with broken Secrets', listed.stdout + listed.stderr));
  const { readdirSync, rmSync } = await import('node:fs');
  for (const name of readdirSync(local.directory)) if (name.startsWith('spoilt-')) rmSync(`${local.directory}/${name}`);
  return places;
}

/** The account's own password changed through the gateway, and the Secret after it. */
export async function rotate(bed: SecretsBed): Promise<Place[]> {
  const places: Place[] = [];
  const client = await login(bed.alice);
  for (const [text, parameters] of [
    [`alter role orders_owner password '${NEXT_PASSWORD}'`],
    [`alter role orders_owner with encrypted password '${NEXT_PASSWORD}' valid until 'infinity'`],
    [`create role other login password '${NEXT_PASSWORD}'`],
    [`create user another with login password E'${NEXT_PASSWORD}'`],
    [`alter role orders_owner password $$${NEXT_PASSWORD}$$`],
    [`do $do$ begin execute 'alter role orders_owner password ''${NEXT_PASSWORD}'''; end $do$`],
    [`alter role orders_owner pasword '${NEXT_PASSWORD}'`],
    ['select set_config($1, $2, false)', ['my.password', NEXT_PASSWORD]],
  ] as [string, string[]?][]) {
    const told = await client.query(text, parameters).then(
      () => undefined,
      (error: Error) => error,
    );
    if (told !== undefined)
      places.push(place(`the error of ${text}`, toldBy(told).replaceAll(NEXT_PASSWORD, '(own words)')));
  }
  await client.end();
  bed.local.write('connection.yaml', bed.connectionFiles({ password: NEXT_PASSWORD }));
  await (await login(bed.alice)).end();
  const back = await login(bed.exempt);
  await back.query(`alter role orders_owner password '${PASSWORD}'`);
  await back.end();
  bed.local.write('connection.yaml', bed.connectionFiles());
  await (await login(bed.alice)).end();
  return places;
}
