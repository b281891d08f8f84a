import assert from 'node:assert/strict';
import net from 'node:net';
import { type TestContext, test } from 'node:test';
import { dialThroughProxy } from './notifier-dial.ts';

async function scene(context: TestContext, addresses: Readonly<Record<string, readonly string[]>> = {}) {
  const asked: string[] = [];
  const guarded: string[] = [];
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (bytes) => {
      asked.push(bytes.toString().split(' ')[1]!);
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => server.close());
  const env = {
    HTTPS_PROXY: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    NO_PROXY: '.corp.example',
  };
  const dial = dialThroughProxy(
    ({ host }) => {
      guarded.push(host);
      return Promise.reject(new Error('the guard judges it'));
    },
    {
      env,
      resolve: (host) =>
        host in addresses ? Promise.resolve(addresses[host]!) : Promise.reject(new Error('ENOTFOUND')),
    },
  );
  const via = async (host: string, hosts: readonly string[] = [host], port = 443): Promise<'Proxy' | 'Guard'> => {
    try {
      (await dial({ host, port }, hosts, AbortSignal.timeout(5_000))).destroy();
      return 'Proxy';
    } catch (error) {
      assert.match((error as Error).message, /the guard judges it/);
      return 'Guard';
    }
  };
  return { asked, guarded, via };
}

test('what is outside goes through the proxy, by its name, whether or not it resolves here', async (context) => {
  const { asked, guarded, via } = await scene(context, { 'hooks.slack.com': ['3.4.5.6'] });
  assert.equal(await via('hooks.slack.com'), 'Proxy');
  assert.equal(await via('jira.example'), 'Proxy');
  assert.deepEqual(asked, ['hooks.slack.com:443', 'jira.example:443']);
  assert.equal(await via('chat.corp.example'), 'Guard', 'NO_PROXY');
  assert.deepEqual(guarded, ['chat.corp.example']);
});

test('INV-12: the proxy is asked for nothing that the guard would refuse', async (context) => {
  const { asked, via } = await scene(context, {
    'rebound.example': ['1.2.3.4', '169.254.169.254'],
    'here.example': ['127.0.0.1'],
  });
  for (const host of [
    'kubernetes',
    'kubernetes.default.svc',
    'db.other.svc.cluster.local',
    'db.other.svc.corp.internal.',
    'metadata.google.internal',
    '169.254.169.254',
    '10.96.0.1',
    '::1',
    'rebound.example',
    'here.example',
  ])
    assert.equal(await via(host), 'Guard', host);
  assert.equal(await via('hooks.example', ['other.example']), 'Guard', 'its Secret does not list it');
  assert.equal(await via('a b'), 'Guard');
  assert.deepEqual(asked, []);
});
