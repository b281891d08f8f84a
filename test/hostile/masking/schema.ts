// The database that attackers are let loose on: masked tables with everything around them that a real one grows.
import type { CompiledMask } from '../../../src/policy/bundle.ts';

/** Masked values that must never be seen. Luhn-valid, so that detectors are not what saves them where they are off. */
export const CARDS = ['4556737586899855', '5425233439995922', '6759649826438453'] as const;
export const EMAILS = ['alice.canary@example.com', 'bob.canary@example.com', 'carol.canary@example.com'] as const;
export const SECRETS = ['xylophone-quartz', 'marmalade-vortex', 'zeppelin-cascade'] as const;

export const SETUP = `
create role app login;
create schema sales authorization app;
set role app;
create domain sales.money_cents as int check (value >= 0);
create table sales.customers (id int primary key, name text not null, email text unique, secret text);
create table sales.cards (
  id int primary key,
  customer_id int not null references sales.customers (id) on update cascade,
  number text not null unique,
  pin int,
  tail text generated always as (right(number, 6)) stored,
  exp date not null default '2030-01-01',
  note text,
  check (length(number) < 20)
);
create table sales.orders (id int primary key, customer_id int references sales.customers (id) on update cascade, total sales.money_cents, state text default 'new', number int);
insert into sales.customers values
  (1, 'Alice', '${EMAILS[0]}', '${SECRETS[0]}'), (2, 'Bob', '${EMAILS[1]}', '${SECRETS[1]}'), (3, 'Carol', '${EMAILS[2]}', '${SECRETS[2]}');
insert into sales.cards (id, customer_id, number, pin, note) values
  (1, 1, '${CARDS[0]}', 9817, 'first'), (2, 2, '${CARDS[1]}', 7264, 'second'), (3, 3, '${CARDS[2]}', 5539, 'third');
insert into sales.orders values (1, 1, 100, 'paid', 7), (2, 2, 250, 'new', 8), (3, 3, 99, 'paid', 9);

create table sales.payments (id int, card text, at date not null) partition by range (at);
create table sales.payments_2025 partition of sales.payments for values from ('2025-01-01') to ('2026-01-01');
create table sales.payments_2026 partition of sales.payments for values from ('2026-01-01') to ('2027-01-01');
insert into sales.payments values (1, '${CARDS[0]}', '2025-05-05'), (2, '${CARDS[1]}', '2026-05-05');

create table sales.people (id int, number text);
create table sales.vips (rank int) inherits (sales.people);
insert into sales.vips values (1, '${CARDS[2]}', 1);

create view sales.card_list as select id, number as pan, exp from sales.cards;
create view sales.card_list_again as select pan as p, id from sales.card_list;
create view sales.card_tails as select id, right(number, 8) as last8 from sales.cards;
create view sales.card_rows as select id, row_to_json(c) as doc from sales.cards c;
create view sales.card_union as select number from sales.cards union all select 'x';
create view sales.card_ids as select id, exp, length(note) as notes from sales.cards;
create view sales.state_counts as select state, count(*) as n from sales.orders group by state;
create view sales.stats_view as select tablename, attname, most_common_vals::text as common, histogram_bounds::text as bounds from pg_stats;
create materialized view sales.card_copy as select id, number as kept from sales.cards;
create materialized view sales.card_sums as select customer_id, string_agg(number, ',') as all_numbers from sales.cards group by customer_id;
create materialized view sales.order_totals as select customer_id, sum(total) as total from sales.orders group by customer_id;
create type sales.pair as (a int, c sales.cards);
create table sales.archive (id int, old sales.cards);
insert into sales.archive select 1, c from sales.cards c where id = 1;

create function sales.number_of(i int) returns text language sql stable as $$ select number from sales.cards where id = i $$;
create function sales.dynamic(t text) returns text language plpgsql as $$ declare r text; begin execute t into r; return r; end $$;
create function sales.via(i int) returns text language sql as $$ select sales.number_of(i) $$;
create function sales.raiser(i int) returns int language plpgsql as $$ declare n text; begin select number into n from sales.cards where id = i; raise exception 'card %', n; end $$;
create function sales.noticer(i int) returns int language plpgsql as $$ declare n text; begin select number into n from sales.cards where id = i; raise notice 'card %', n; return 1; end $$;
create function sales.whole(c sales.cards) returns text language sql as $$ select c.number $$;
create function sales.wrapper(c anyelement) returns text language sql as $$ select $1::text $$;
create function sales.discount(cents int) returns int language sql immutable as $$ select (cents * 9) / 10 $$;
create function sales.order_label(i int) returns text language plpgsql as $$ declare s text; begin select state into s from sales.orders where id = i; return 'order ' || s; end $$;
create function sales.unicode_trick(i int) returns text language sql as $$ select U&"n\\0075mber" from sales.U&"c\\0061rds" where id = i $$;
create view sales.via_function as select id, sales.number_of(id) as hidden from sales.orders;
create view sales.card_predicate as select id from sales.cards where number::bigint > 0;
create function sales.plus(a int, b text) returns text language sql as $$ select sales.number_of(a) $$;
create operator sales.|+| (leftarg = int, rightarg = text, function = sales.plus);
create function sales.agg_step(s text, i int) returns text language sql as $$ select coalesce(s, '') || sales.number_of(i) $$;
create aggregate sales.all_cards (int) (sfunc = sales.agg_step, stype = text);
create procedure sales.tell(i int) language plpgsql as $$ begin raise notice '%', sales.number_of(i); end $$;
create type sales.tag as (i int);
create function sales.to_text(t sales.tag) returns text language sql as $$ select sales.number_of(t.i) $$;
create cast (sales.tag as text) with function sales.to_text (sales.tag);

create table sales.audit (id serial, what text);
create function sales.copy_number() returns trigger language plpgsql as $$ begin new.note := new.number; return new; end $$;
create table sales.wallets (id int primary key, number text, note text);
insert into sales.wallets values (1, '${CARDS[0]}', null);
create trigger copy before update on sales.wallets for each row execute function sales.copy_number();
create function sales.spread() returns trigger language plpgsql as $$ begin insert into sales.audit (what) select x::text from (select new.*) x; return new; end $$;
create table sales.spreading (id int primary key, number text);
insert into sales.spreading values (1, '${CARDS[2]}');
create trigger spread before update on sales.spreading for each row execute function sales.spread();
create function sales.shout() returns trigger language plpgsql as $$ begin raise exception 'row is %', new; end $$;
create table sales.loud (id int primary key, number text);
insert into sales.loud values (1, '${CARDS[1]}');
create trigger shout before update on sales.loud for each row execute function sales.shout();
create function sales.touch() returns trigger language plpgsql as $$ begin new.state := coalesce(new.state, 'new'); return new; end $$;
create trigger touch before insert or update on sales.orders for each row execute function sales.touch();
create table sales.ruled (id int);
create rule peek as on insert to sales.ruled do also select upper(number) from sales.cards;
create table sales.checked (id int check (sales.number_of(id) is not null));
create table sales.long_names (id int, a23456789_b23456789_c23456789_d23456789_e23456789_f23456789_123 text, "prüfÄ" text);
insert into sales.long_names values (1, '${CARDS[0]}', '${CARDS[1]}');
create function sales.on_truncate() returns trigger language plpgsql as $$ begin raise exception 'first is %', (select number from sales.cards limit 1); end $$;
create table sales.truncated (id int);
create trigger t before truncate on sales.truncated for each statement execute function sales.on_truncate();
create table sales.tagged (id int, t sales.tag);
insert into sales.tagged values (1, row(1)), (2, row(2));
create view sales.updatable as select id, customer_id, note from sales.cards where length(number) > 10 with check option;
create table sales."Odd Name" (id int, "Number" text);
insert into sales."Odd Name" values (1, '${CARDS[0]}');
reset role;
grant pg_read_all_stats to app;
grant create on schema public to app;
grant create on database postgres to app;
alter role app set search_path = sales, public;
analyze;
`;

const mask = (
  rule: string,
  columns: string[],
  kind: CompiledMask['with'],
  more: Partial<CompiledMask> = {},
): CompiledMask => ({
  ref: { policy: 'payments/orders-team', rule },
  columns,
  detectors: [],
  with: kind,
  predicates: 'Deny',
  exempt: [],
  ...more,
});

export const MASKS: CompiledMask[] = [
  mask(
    'cards',
    [
      '*.cards.number',
      'sales.payments_2025.card',
      'sales.people.number',
      '*.wallets.number',
      '*.loud.number',
      '*.spreading.number',
      'sales.odd name.number',
      '*.long_names.a23*',
      'sales.long_names.prüf*',
    ],
    'Last4',
  ),
  mask('pins', ['sales.cards.pin'], 'Redact'),
  mask('mail', ['sales.customers.email'], 'Email'),
  mask('secrets', ['sales.customers.secret'], 'Redact'),
];

/** Every form in which a masked value might be told from what a client was shown. */
export function leaks(shown: Buffer): string[] {
  const texts = [shown.toString('latin1'), shown.toString('utf8')];
  const found: string[] = [];
  const look = (needle: string, what: string): void => {
    if (texts.some((text) => text.includes(needle))) found.push(what);
  };
  for (const card of CARDS) {
    for (let i = 0; i + 5 <= card.length; i++) look(card.slice(i, i + 5), `digits ${card.slice(i, i + 5)}`);
    look(Array.from(card).reverse().join('').slice(0, 8), `reversed ${card}`);
    look(Buffer.from(card).toString('hex').slice(0, 20), `hex of ${card}`);
    look(Buffer.from(card).toString('base64').slice(0, 10), `base64 of ${card}`);
    look(Array.from(card).join(',').slice(0, 12), `spread ${card}`);
  }
  for (const text of [...EMAILS.map((email) => email.split('@')[0]!), ...SECRETS]) {
    look(text, text);
    look(text.toUpperCase(), `upper ${text}`);
    look(Array.from(text).reverse().join(''), `reversed ${text}`);
    look(Buffer.from(text).toString('hex'), `hex of ${text}`);
  }
  return found;
}
