import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browserOf } from './browser.ts';

test('which program opens a page, and where there is none', () => {
  assert.deepEqual(browserOf({ BROWSER: 'firefox:lynx' }, 'linux'), { kind: 'Program', command: 'firefox', args: [] });
  assert.deepEqual(browserOf({ SSH_TTY: '/dev/pts/0', DISPLAY: ':0' }, 'linux'), { kind: 'None', remote: true });
  assert.deepEqual(browserOf({}, 'linux'), { kind: 'None', remote: false });
  assert.deepEqual(browserOf({ WAYLAND_DISPLAY: 'w' }, 'linux'), { kind: 'Program', command: 'xdg-open', args: [] });
  assert.deepEqual(browserOf({}, 'darwin'), { kind: 'Program', command: 'open', args: [] });
});
