"""What psycopg 3 does in earnest, as one line a behaviour: `name<TAB>result`.

Run twice, straight to the server and through the gateway; both outputs must be equal. Connection settings come from
the PG* environment.
"""

import decimal
import sys
import threading
import time
import uuid

import psycopg
from psycopg import sql


def report(name, value):
    print(f"{name}\t{value}", flush=True)


def main():
    with psycopg.connect(autocommit=True) as conn:
        report("simple", conn.execute("select 1 as one, 'ü' as umlaut, null as nothing").fetchone())
        report("status", conn.info.transaction_status.name)
        conn.execute("drop table if exists psycopg_t")
        conn.execute("create table psycopg_t (id int primary key, n numeric, t text, b bytea, u uuid, a int[], ts timestamptz)")

        row = (1, decimal.Decimal("12.50"), "o'brien \\ \u00e9", b"\x00\xff", uuid.UUID(int=7), [1, None, 3])
        conn.execute("insert into psycopg_t (id, n, t, b, u, a) values (%s, %s, %s, %s, %s, %s)", row)
        report("types-text", conn.execute("select id, n, t, b, u, a from psycopg_t").fetchone())
        with conn.cursor(binary=True) as cur:
            report("types-binary", cur.execute("select id, n, t, b, u, a from psycopg_t").fetchone())

        for n in range(12):
            got = conn.execute("select %s::int + 1", (n,), prepare=True).fetchone()
        report("prepared", got)

        try:
            conn.execute("select 1/0")
        except psycopg.errors.DivisionByZero as e:
            report("error", (e.sqlstate, e.diag.message_primary, conn.info.transaction_status.name))
        try:
            conn.execute("selec 1")
        except psycopg.errors.SyntaxError as e:
            report("syntax-error", (e.sqlstate, e.diag.statement_position))

        with conn.transaction():
            conn.execute("insert into psycopg_t (id) values (2)")
            try:
                with conn.transaction():
                    conn.execute("insert into psycopg_t (id) values (2)")
            except psycopg.errors.UniqueViolation as e:
                report("savepoint", e.diag.constraint_name)
        report("committed", conn.execute("select count(*) from psycopg_t").fetchone())

        try:
            with conn.transaction():
                conn.execute("insert into psycopg_t (id) values (3)")
                raise KeyError
        except KeyError:
            report("rolled-back", conn.execute("select count(*) from psycopg_t").fetchone())

        with conn.cursor() as cur:
            cur.executemany("insert into psycopg_t (id, t) values (%s, %s)", [(i, f"row {i}") for i in range(10, 200)])
            report("executemany", cur.rowcount)

        with conn.cursor() as cur:
            with cur.copy("copy psycopg_t (id, t) from stdin") as copy:
                for i in range(1000, 6000):
                    copy.write_row((i, f"copied {i}"))
            report("copy-in", cur.rowcount)
            total = 0
            with cur.copy("copy psycopg_t (id, t) to stdout") as copy:
                for block in copy:
                    total += len(block)
            report("copy-out", total)
            with cur.copy("copy (select id from psycopg_t order by id limit 3) to stdout (format binary)") as copy:
                copy.set_types(["int4"])
                report("copy-binary", list(copy.rows()))
            try:
                with cur.copy("copy psycopg_t (id) from stdin") as copy:
                    copy.write_row((90000,))
                    copy.write_row((1,))
            except psycopg.errors.UniqueViolation as e:
                report("copy-error", e.sqlstate)
            try:
                with cur.copy("copy psycopg_t (id) from stdin") as copy:
                    copy.write_row((90001,))
                    raise RuntimeError("client gives up")
            except (RuntimeError, psycopg.errors.QueryCanceled):
                report("copy-fail", conn.execute("select count(*) from psycopg_t where id >= 90000").fetchone())

        with conn.transaction():
            with conn.cursor(name="portal") as cur:
                cur.itersize = 100
                cur.execute("select id from psycopg_t order by id")
                report("server-cursor", sum(1 for _ in cur))

        with conn.pipeline() as pipe:
            first = conn.execute("select 1")
            second = conn.execute("select %s::text", ("two",))
            pipe.sync()
            report("pipeline", (first.fetchone(), second.fetchone()))
        try:
            with conn.pipeline() as pipe:
                conn.execute("insert into psycopg_t (id) values (70000)")
                conn.execute("insert into psycopg_t (id) values (70000)")
                conn.execute("insert into psycopg_t (id) values (70001)")
                pipe.sync()
        except psycopg.errors.UniqueViolation as e:
            report("pipeline-error", e.sqlstate)
        report("pipeline-after", (conn.execute("select count(*) from psycopg_t where id >= 70000").fetchone(), conn.info.transaction_status.name))

        notices = []
        conn.add_notice_handler(lambda diag: notices.append((diag.severity, diag.message_primary)))
        conn.execute("drop table if exists there_is_none_such")
        report("notice", notices)

        timer = threading.Timer(0.5, conn.cancel)
        timer.start()
        started = time.monotonic()
        try:
            conn.execute("select pg_sleep(30)")
        except psycopg.errors.QueryCanceled as e:
            report("cancel", (e.sqlstate, time.monotonic() - started < 10))
        report("after-cancel", conn.execute("select 42").fetchone())

        report("big-value", conn.execute("select length(%s)", ("x" * 900_000,)).fetchone())
        report("many-rows", sum(1 for _ in conn.execute("select g, repeat('y', 20) from generate_series(1, 100000) g")))
        report("multi", [c.fetchone() for c in results(conn.execute("select 1; select 2; select 3"))])
        report("identifier", conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier("psycopg_t"))).fetchone())
        conn.execute("drop table psycopg_t")

    try:
        with psycopg.connect() as conn:
            conn.execute("create table psycopg_gone (id int)")
            raise KeyError
    except KeyError:
        pass
    with psycopg.connect() as conn:
        report("connection-rollback", conn.execute("select to_regclass('psycopg_gone')").fetchone())
    return 0


def results(cursor):
    yield cursor
    while cursor.nextset():
        yield cursor


sys.exit(main())
