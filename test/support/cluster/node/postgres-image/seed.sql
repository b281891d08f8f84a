-- The demo's database: orders, and the cards whose numbers nobody should see. Roles without a password are left out.
create table cards (id int primary key, holder text not null, number text not null, email text not null);
insert into cards values
  (1, 'Ada Obi', '4111111111111111', 'ada.obi@example.com'),
  (2, 'Ben Ito', '5500005555555559', 'ben.ito@example.com');
create table orders (
  id int primary key,
  card_id int references cards,
  amount numeric(10, 2),
  state text not null default 'new'
);
insert into orders select g, 1 + g % 2, g * 1.25, 'new' from generate_series(1, 1000) g;
do $$
begin
  if exists (select from pg_roles where rolname = 'orders_reader') then
    grant select on cards, orders to orders_reader;
  end if;
  if exists (select from pg_roles where rolname = 'orders_writer') then
    grant select on cards to orders_writer;
    grant select, insert, update, delete on orders to orders_writer;
  end if;
  if exists (select from pg_roles where rolname = 'orders_owner') then
    grant create on schema public to orders_owner;
    alter table cards owner to orders_owner;
    alter table orders owner to orders_owner;
  end if;
end $$;
