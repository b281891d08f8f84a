// A kubeconfig is read as kubectl reads it: which file wins, what a context means, how proxies and impersonation apply.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { CliError } from '../io.ts';
import { configFiles, type KubeOptions, openKubeTarget, proxyFor } from './kubeconfig.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kubeconfig-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

interface Given {
  clusters?: Record<string, object>;
  users?: Record<string, object>;
  contexts?: Record<string, object>;
  current?: string;
}

const list = (member: string, entries: Record<string, object> = {}): object[] =>
  Object.entries(entries).map(([name, value]) => ({ name, [member]: value }));

function write(name: string, given: Given): string {
  const file = path.join(folder, name);
  const document = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: list('cluster', given.clusters),
    users: list('user', given.users),
    contexts: list('context', given.contexts),
    ...(given.current === undefined ? {} : { 'current-context': given.current }),
  };
  fs.writeFileSync(file, JSON.stringify(document));
  return file;
}

const open = (files: readonly string[], options: KubeOptions = {}) =>
  openKubeTarget(options, { env: { KUBECONFIG: files.join(path.delimiter) }, inTty: false });

const fails = (message: RegExp) => (error: unknown) =>
  error instanceof CliError && message.test(`${error.message} ${error.hint ?? ''}`);

const simple: Given = {
  clusters: { prod: { server: 'https://prod.example:6443' } },
  users: { ana: { token: 'ana-token' } },
  contexts: { prod: { cluster: 'prod', user: 'ana', namespace: 'payments' } },
  current: 'prod',
};

test('the current context gives server, namespace and token', async () => {
  const target = await open([write('simple', simple)]);
  assert.equal(target.contextName, 'prod');
  assert.equal(target.namespace, 'payments');
  assert.equal(target.access.server, 'https://prod.example:6443');
  assert.deepEqual(await target.access.headers(), { authorization: 'Bearer ana-token' });
});

test('--kubeconfig wins over KUBECONFIG, and that over the home folder', () => {
  assert.deepEqual(configFiles('/given', { KUBECONFIG: '/a:/b' }), ['/given']);
  assert.deepEqual(configFiles(undefined, { KUBECONFIG: '/a::/b:/a' }), ['/a', '/b']);
  assert.deepEqual(configFiles(undefined, { HOME: '/home/ana' }), ['/home/ana/.kube/config']);
});

test('of several files the first that names something wins; one that is missing does not matter', async () => {
  const first = write('first', { clusters: { prod: { server: 'https://first.example' } }, current: 'prod' });
  const target = await open([path.join(folder, 'missing'), first, write('second', simple)]);
  assert.equal(target.access.server, 'https://first.example');
  assert.equal(target.namespace, 'payments', 'the context comes from the second file');
});

test('a file that was asked for must be there and be YAML; what it holds is never told', async () => {
  await assert.rejects(open([], { kubeconfig: path.join(folder, 'missing') }), fails(/can not be read \(ENOENT\)/));
  const file = path.join(folder, 'broken');
  fs.writeFileSync(file, 'users:\n- name: ana\n  user: {token: very-secret');
  await assert.rejects(
    open([], { kubeconfig: file }),
    (error: unknown) => fails(/is no YAML \(line \d+\)/)(error) && !String(error).includes('very-secret'),
  );
});

test('what is missing is named: context, cluster, server, user', async () => {
  const file = write('gaps', {
    clusters: { bare: {} },
    contexts: { nowhere: { cluster: 'gone' }, bare: { cluster: 'bare' }, nobody: { cluster: 'ok', user: 'gone' } },
  });
  const more = write('more', { clusters: { ok: { server: 'https://ok.example' } } });
  await assert.rejects(open([file]), fails(/no current context.*kubectl config use-context/));
  await assert.rejects(open([file], { context: 'other' }), fails(/no context other.*nowhere, bare, nobody/));
  await assert.rejects(open([file], { context: 'nowhere' }), fails(/where cluster gone is/));
  await assert.rejects(open([file], { context: 'bare' }), fails(/where cluster bare is/));
  await assert.rejects(open([file, more], { context: 'nobody' }), fails(/no user gone/));
});

test('no configuration at all says what to set', async () => {
  await assert.rejects(open([path.join(folder, 'missing')]), fails(/No cluster is configured.*KUBECONFIG/));
});

test('paths are relative to their own file, data wins over a file, and a token file is read each time', async () => {
  fs.mkdirSync(path.join(folder, 'pki'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'pki/ca.pem'), 'CA of the file');
  fs.writeFileSync(path.join(folder, 'pki/token'), 'one\n');
  const file = write('paths', {
    clusters: {
      file: { server: 'https://a.example', 'certificate-authority': 'pki/ca.pem' },
      data: {
        server: 'https://a.example',
        'certificate-authority': 'pki/missing.pem',
        'certificate-authority-data': Buffer.from('CA in place').toString('base64'),
      },
      missing: { server: 'https://a.example', 'certificate-authority': 'pki/missing.pem' },
    },
    users: { ana: { token: 'stale', tokenFile: 'pki/token' } },
    contexts: {
      file: { cluster: 'file', user: 'ana' },
      data: { cluster: 'data', user: 'ana' },
      missing: { cluster: 'missing' },
    },
  });
  const { access } = await open([file], { context: 'file' });
  assert.equal(access.ca, 'CA of the file');
  assert.deepEqual(await access.headers(), { authorization: 'Bearer one' });
  fs.writeFileSync(path.join(folder, 'pki/token'), 'two');
  assert.deepEqual(await access.headers(), { authorization: 'Bearer two' });
  assert.equal((await open([file], { context: 'data' })).access.ca, 'CA in place');
  await assert.rejects(open([file], { context: 'missing' }), fails(/certificate-authority .*missing\.pem.*ENOENT/));
});

test('client certificates and passwords', async () => {
  const encoded = (text: string): string => Buffer.from(text).toString('base64');
  const file = write('users', {
    clusters: { a: { server: 'https://a.example', 'tls-server-name': 'b.example', 'insecure-skip-tls-verify': true } },
    users: {
      cert: { 'client-certificate-data': encoded('cert'), 'client-key-data': encoded('key') },
      basic: { username: 'ana', password: 'pw' },
    },
    contexts: { cert: { cluster: 'a', user: 'cert' }, basic: { cluster: 'a', user: 'basic' }, none: { cluster: 'a' } },
  });
  const { access } = await open([file], { context: 'cert' });
  assert.deepEqual(access.clientCert, { cert: 'cert', key: 'key' });
  assert.equal(access.tlsServerName, 'b.example');
  assert.equal(access.insecureSkipTlsVerify, true);
  const basic = await open([file], { context: 'basic' });
  assert.deepEqual(await basic.access.headers(), { authorization: `Basic ${encoded('ana:pw')}` });
  assert.deepEqual(await (await open([file], { context: 'none' })).access.headers(), {});
});

test('flags impersonate instead of the kubeconfig, and groups alone impersonate nobody', async () => {
  const file = write('impersonation', {
    ...simple,
    users: { ana: { token: 't', as: 'ben', 'as-groups': ['ops'], 'as-user-extra': { 'Reason For': ['x'] } } },
  });
  assert.deepEqual(await (await open([file])).access.headers(), {
    authorization: 'Bearer t',
    'impersonate-user': 'ben',
    'impersonate-group': ['ops'],
    'impersonate-extra-reason%20for': ['x'],
  });
  const flags = await open([file], { as: 'eve', asUid: 'u-1', asGroup: ['dba'] });
  const headers = await flags.access.headers();
  assert.equal(headers['impersonate-user'], 'eve');
  assert.equal(headers['impersonate-uid'], 'u-1');
  assert.deepEqual(headers['impersonate-group'], ['dba']);
  await assert.rejects(open([write('simple', simple)], { asGroup: ['dba'] }), fails(/need --as/));
});

test('a proxy is used unless NO_PROXY names the host, its domain, its range or port', () => {
  const proxy = 'http://proxy.example:3128';
  const used = (url: string, noProxy = ''): boolean =>
    proxyFor(new URL(url), undefined, { HTTPS_PROXY: proxy, NO_PROXY: noProxy }) === proxy;
  assert.ok(used('https://k8s.example'));
  assert.ok(!used('https://k8s.example', 'k8s.example'));
  assert.ok(!used('https://api.k8s.example', '.k8s.example'));
  assert.ok(!used('https://api.k8s.example', 'other, k8s.example'));
  assert.ok(used('https://notk8s.example', 'k8s.example'));
  assert.ok(!used('https://10.1.2.3', '10.0.0.0/8'));
  assert.ok(used('https://11.1.2.3', '10.0.0.0/8'));
  assert.ok(used('https://110.1.2.3', '0.1.2.3'));
  assert.ok(!used('https://k8s.example:6443', 'k8s.example:6443'));
  assert.ok(used('https://k8s.example:6443', 'k8s.example:443'));
  assert.ok(!used('https://k8s.example', '*'));
  assert.ok(!used('https://127.0.0.1:6443'));
  assert.ok(!used('https://localhost:6443'));
  assert.equal(proxyFor(new URL('https://a.example'), 'http://own:1', { NO_PROXY: '*' }), 'http://own:1');
  assert.throws(
    () => proxyFor(new URL('https://a.example'), 'socks5://ana:secret@own:1', {}),
    (error: unknown) => fails(/neither http nor https/)(error) && !String(error).includes('secret'),
  );
});
