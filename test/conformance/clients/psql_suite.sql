\set VERBOSITY verbose
\pset null '(null)'
select 1 as one, null as nothing, 'ü' as umlaut;
drop table if exists psql_t;
create table psql_t (id int primary key, t text, n numeric default 1.5);
insert into psql_t (id, t) select g, 'row ' || g from generate_series(1, 5) g returning id;
\d psql_t
\dt psql_t
\dn
\df psql_none*
\l drivers
\copy psql_t (id, t) to stdout
\copy psql_t (id, t) from stdin
100	hundred
101	one more
\.
copy (select t from psql_t where id >= 100 order by id) to stdout csv header;
begin;
update psql_t set t = 'x' where id = 1;
savepoint a;
select 1/0;
rollback to a;
select t from psql_t where id = 1;
rollback;
select t from psql_t where id = 1;
prepare p (int) as select t from psql_t where id = $1;
execute p (2);
deallocate p;
begin;
declare c cursor for select id from psql_t order by id;
fetch 2 from c;
fetch 2 from c;
close c;
commit;
select 1 \; select 2;
select $$dollar 'quoted'$$;
selec 1;
\set ECHO_HIDDEN off
select id from psql_t order by id \gdesc
select 'bound ' || $1 \bind 'value' \g
explain (costs off) select * from psql_t where id = 1;
do $$ begin raise notice 'a notice'; end $$;
set statement_timeout = '200ms';
select pg_sleep(5);
reset statement_timeout;
show server_encoding;
drop table psql_t;
