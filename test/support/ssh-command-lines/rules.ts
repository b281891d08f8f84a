// Command lines and what must become of them under one policy (LINE_RULES). `canary` stands for what must never run: it is
// allowed by name and denied by a rule, and every line in `denied` and `notUnderstood` would run it, or something else that
// no rule allows, in some shell or by some trick. So a target that writes down each run of `canary` tells whether a line
// got through. Harmless where `canary`, `restart-app` and `pwned` are stubs: no line changes anything but /tmp/lines.
import type { Rule } from '../../../src/api/policy.ts';

export const LINE_RULES: readonly Rule[] = [
  {
    name: 'work',
    action: 'Allow',
    ssh: {
      commands: [
        'echo **',
        'printf **',
        'true',
        'false',
        ':',
        'id **',
        'uname **',
        'ls **',
        'cat **',
        'grep **',
        'wc **',
        'sort **',
        'head **',
        'tail **',
        'test **',
        '[ **',
        'date',
        'find **',
        'base64 **',
        'sleep *',
        'touch **',
        'hostname',
        'tr **',
        'seq *',
        'xargs',
        'canary **',
        'restart-app **',
        'systemctl status nginx-*',
        'git-upload-pack "team/*"',
        'tee /tmp/lines/*',
        'pwd',
        'cd /tmp/lines',
        'python3 --version',
      ],
    },
  },
  { name: 'as-app', action: 'Allow', ssh: { commands: ['id', 'systemctl restart nginx-*'], users: ['app'] } },
  { name: 'files', action: 'Allow', ssh: { paths: ['/tmp/lines/**'] } },
  { name: 'variables', action: 'Allow', ssh: { env: ['APP_*'] } },
  { name: 'no-canary', action: 'Deny', ssh: { commands: ['canary'] }, message: 'It must never run.' },
  {
    name: 'ask',
    action: 'Hold',
    ssh: { commands: ['restart-app'] },
    hold: { approvers: [{ kind: 'Group', name: 'ops' }], timeout: '5s' },
  },
];
