// The local mode that most tests begin from: a PostgreSQL with a database `orders`, twenty orders in it, and a daemon over
// a Connection of it with one account.
import { connectionYaml, type Local, startLocal } from './local.ts';
import { type PostgresServer, startPostgres } from './postgres.ts';

export interface Orders {
  server: PostgresServer;
  local: Local;
  stop(): Promise<void>;
}

/** For `table`: twenty orders that have a state. */
export const ORDERS_WITH_STATES = `create table orders (id int primary key, state text not null);
  insert into orders select g, 'new' from generate_series(1, 20) g;`;

export async function startOrders(options: {
  /** Of the Connection; the role behind it is `role`. */
  account: string;
  role: string;
  password: string;
  /** Columns and rows of `orders`; default: ids from 1 to 20. */
  table?: string;
  /** After the role and the table. */
  setup: string;
  /** Beside connection.yaml. */
  files: Record<string, string>;
}): Promise<Orders> {
  const { account, role, password } = options;
  const table =
    options.table ?? 'create table orders (id int primary key); insert into orders select generate_series(1, 20);';
  const server = await startPostgres({
    database: 'orders',
    setup: `create role ${role} login password '${password}'; ${table} ${options.setup}`,
  });
  try {
    const local = await startLocal({
      'connection.yaml': connectionYaml(server, {
        database: 'orders',
        accounts: { [account]: { username: role, password } },
      }),
      ...options.files,
    });
    return {
      server,
      local,
      async stop() {
        await local.stop();
        await server.stop();
      },
    };
  } catch (error) {
    await server.stop();
    throw error;
  }
}
