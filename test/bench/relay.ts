// The peer every figure is compared with: the least that a recording gateway in Node can be. TLS on both legs, one
// record written with write(2) for what a client sent in a turn before it is forwarded, no parsing, no policy.
// Usage: node relay.ts LISTEN_PORT TARGET_PORT CERT KEY RECORD_FILE
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const [listenPort, targetPort, certFile, keyFile, recordFile] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const context = tls.createSecureContext({ cert: fs.readFileSync(certFile), key: fs.readFileSync(keyFile) });
const record = fs.openSync(recordFile, 'a');

function couple(from: tls.TLSSocket, to: tls.TLSSocket, before: (bytes: Buffer) => void): void {
  from.on('data', (bytes: Buffer) => {
    before(bytes);
    if (!to.write(bytes)) from.pause();
  });
  to.on('drain', () => from.resume());
  from.on('close', () => to.destroy());
  from.on('error', () => to.destroy());
}

net
  .createServer({ noDelay: true }, (client) => {
    client.on('error', () => client.destroy());
    client.once('data', () => {
      client.pause();
      client.write('S');
      const near = new tls.TLSSocket(client, { isServer: true, secureContext: context });
      const raw = net.connect({ port: Number(targetPort), host: '127.0.0.1', noDelay: true });
      raw.on('error', () => near.destroy());
      raw.write(SSL_REQUEST);
      raw.once('data', () => {
        const far = tls.connect({ socket: raw, rejectUnauthorized: false });
        far.once('secureConnect', () => {
          couple(near, far, (bytes) => {
            const line = Buffer.from(
              `${JSON.stringify({ ts: Date.now(), bytes: bytes.length, text: bytes.toString('latin1') })}\n`,
            );
            fs.writeSync(record, line, 0, line.length);
          });
          couple(far, near, () => undefined);
        });
      });
    });
  })
  .listen(Number(listenPort), '127.0.0.1', () => process.send?.('listening'));
