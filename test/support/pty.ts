// Runs a program on a terminal of its own and plays keys to it, by Python's pty module. Deterministic keys, real output.
import { spawn } from 'node:child_process';

const RUNNER = `
import base64, fcntl, json, os, pty, select, signal, struct, sys, termios, time
plan = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.environ.update(plan['env'])
    os.execvp(plan['argv'][0], plan['argv'])
def size(columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
size(plan['columns'], plan['rows'])
def say(what):
    print(json.dumps(what), flush=True)
tail = b''
def drain(quiet, most, after=b''):
    global tail
    end = time.monotonic() + most
    while time.monotonic() < end:
        ready, _, _ = select.select([fd], [], [], quiet)
        if not ready:
            if after in tail:
                return True
            continue
        try:
            data = os.read(fd, 65536)
        except OSError:
            return False
        if not data:
            return False
        tail = (tail + data)[-65536:]
        say({'output': base64.b64encode(data).decode(), 'at': time.time()})
    return True
select.select([fd], [], [], 20)
alive = drain(plan['quiet'], 10)
for number, step in enumerate(plan['steps']):
    if not alive:
        break
    if 'after' in step:
        alive = drain(plan['quiet'], 20, step['after'].encode())
    tail = b''
    say({'step': number})
    if 'resize' in step:
        size(*step['resize'])
        say({'resize': step['resize']})
        os.kill(pid, signal.SIGWINCH)
    else:
        os.write(fd, step['keys'].encode())
    alive = drain(plan['quiet'], 10)
if alive and plan['ends']:
    alive = drain(20, 20)
if alive:
    os.kill(pid, signal.SIGKILL)
_, status = os.waitpid(pid, 0)
say({'exit': os.waitstatus_to_exitcode(status)})
`;

export type PtyEvent =
  /** `atMs`: when it was read, since 1970. */
  | { output: Buffer; atMs: number }
  | { resize: [number, number] }
  /** This step is played next: the program was quiet. */
  | { step: number }
  | { exit: number };
/** `after`: not before it wrote this since the last step; programs throw away what is typed before they ask for it. */
export type Keys = { keys: string; after?: string } | { resize: [number, number] };

/** The first step follows its first output, each when the program was quiet for a moment. Resolves when it is over; it is killed if it does not end. */
export async function playOnPty(options: {
  argv: readonly string[];
  columns?: number;
  rows?: number;
  env?: Record<string, string>;
  steps?: readonly Keys[];
  /** Seconds without output after which the next step is played. */
  quiet?: number;
  /** Behind the last step it ends by itself: wait for that, at most 20 seconds. */
  ends?: boolean;
}): Promise<PtyEvent[]> {
  const plan = {
    argv: options.argv,
    columns: options.columns ?? 80,
    rows: options.rows ?? 24,
    env: { TERM: 'xterm-256color', LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8', ...options.env },
    steps: options.steps ?? [],
    quiet: options.quiet ?? 0.4,
    ends: options.ends ?? false,
  };
  const child = spawn('python3', ['-c', RUNNER, JSON.stringify(plan)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (data: Buffer) => out.push(data));
  child.stderr.on('data', (data: Buffer) => err.push(data));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`the terminal could not be played: ${Buffer.concat(err).toString()}`);
  return Buffer.concat(out)
    .toString()
    .trim()
    .split('\n')
    .map((line) => {
      const said = JSON.parse(line) as {
        output?: string;
        at?: number;
        resize?: [number, number];
        step?: number;
        exit?: number;
      };
      if (said.output !== undefined) return { output: Buffer.from(said.output, 'base64'), atMs: said.at! * 1000 };
      if (said.step !== undefined) return { step: said.step };
      return said.resize === undefined ? { exit: said.exit! } : { resize: said.resize };
    });
}
