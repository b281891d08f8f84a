// What SSH's transport costs by itself: messages of CHANNEL_DATA's size from a server to a client in one process over
// loopback, so each figure pays for both the sealing and the opening. A relay does the same work for each byte.
// Usage: node test/bench/ssh-transport.ts [MIB [ROUNDS]]
import net from 'node:net';
import process from 'node:process';
import { CIPHERS, type Cipher, FULL_OFFER, isAead, MACS, type Mac } from '../../src/protocols/ssh/transport/kexinit.ts';
import { openTransport, SYSTEM_TOOLS, transportOpener } from '../../src/protocols/ssh/transport/open-transport.ts';
import { clientOptions, serverOptions } from '../../src/protocols/ssh/transport/test-peers.ts';
import type { Transport } from '../../src/protocols/ssh/transport/transport.ts';

const MIB = 1024 * 1024;
const total = Number(process.argv[2] ?? 512) * MIB;
const rounds = Number(process.argv[3] ?? 3);

async function peers(cipher: Cipher, mac: Mac): Promise<[Transport, Transport, () => void]> {
  const near = Promise.withResolvers<net.Socket>();
  const listener = net.createServer((socket) => near.resolve(socket)).listen(0, '127.0.0.1');
  await new Promise((resolve) => listener.once('listening', resolve));
  const far = net.connect((listener.address() as net.AddressInfo).port, '127.0.0.1');
  const [server, client] = await Promise.all([
    openTransport(await near.promise, serverOptions()),
    transportOpener({ ...SYSTEM_TOOLS, offer: { ...FULL_OFFER, ciphers: [cipher], macs: [mac] } })(
      far,
      clientOptions(),
    ),
  ]);
  server.authenticated();
  client.authenticated();
  return [
    server,
    client,
    () => {
      server.destroy();
      client.destroy();
      listener.close();
    },
  ];
}

async function measure(cipher: Cipher, mac: Mac, size: number): Promise<{ mbps: number; cpu: number }> {
  const [server, client, close] = await peers(cipher, mac);
  const message = Buffer.alloc(size + 9, 94);
  const count = Math.floor(total / size);
  const arrived = Promise.withResolvers<void>();
  let received = 0;
  client.onMessage = () => {
    received += 1;
    if (received === count) arrived.resolve();
  };
  server.onMessage = () => undefined;
  const cpu = process.cpuUsage();
  const start = performance.now();
  let sent = 0;
  const pour = (): void => {
    while (sent < count) {
      sent += 1;
      if (!server.send(message)) return; // sealing copies it
    }
  };
  server.onDrain = pour;
  pour();
  await arrived.promise;
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  close();
  return { mbps: (count * size) / 1e6 / seconds, cpu: (used.user + used.system) / 1e3 / ((count * size) / 1e9) };
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

for (const cipher of CIPHERS)
  for (const mac of isAead(cipher) ? [undefined] : MACS)
    for (const size of [32 * 1024, 1024]) {
      const seen: { mbps: number; cpu: number }[] = [];
      for (let round = 0; round < rounds; round += 1) seen.push(await measure(cipher, mac ?? MACS[0], size));
      console.log(
        `${cipher.padEnd(24)} ${(mac ?? '').padEnd(30)} ${String(size).padStart(6)} bytes: ${median(seen.map((one) => one.mbps)).toFixed(0)} MB/s, ${median(seen.map((one) => one.cpu)).toFixed(0)} ms of CPU a GB`,
      );
    }
