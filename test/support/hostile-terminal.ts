// What a hostile program writes to a terminal, and what a replay of it may hold.
import assert from 'node:assert/strict';

export const ESC = '\u001b';
const ST = `${ESC}\\`;
/** What a program writes to act on whoever looks at it later; name, text. */
export const HOSTILE: readonly [string, string][] = [
  ['a title', `${ESC}]0;owned\u0007`],
  ['a title by ST', `${ESC}]2;owned${ST}`],
  ['a title to read back', `${ESC}]0;\nrm -rf ~\n\u0007${ESC}[21t`],
  ['a link', `${ESC}]8;;file:///etc/passwd\u0007click${ESC}]8;;\u0007`],
  ['the clipboard', `${ESC}]52;c;cm0gLXJmIH4K\u0007`],
  ['asking for the clipboard', `${ESC}]52;c;?\u0007`],
  ['colours asked for', `${ESC}]11;?\u0007${ESC}]4;1;?\u0007`],
  ['a notification', `${ESC}]9;pay me\u0007${ESC}]777;notify;a;b\u0007`],
  ['a file', `${ESC}]1337;File=inline=1:AAAA\u0007`],
  ['a font', `${ESC}]50;#1\u0007`],
  ['DECRQSS', `${ESC}P$q"p${ST}`],
  ['terminfo asked for', `${ESC}P+q544e${ST}`],
  ['keys defined anew', `${ESC}P0;1|17/0a726d${ST}`],
  ['APC', `${ESC}_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA${ST}`],
  ['PM', `${ESC}^x${ST}`],
  ['SOS', `${ESC}Xx${ST}`],
  ['device attributes', `${ESC}[c${ESC}[>c${ESC}[=c${ESC}Z`],
  ['status reports', `${ESC}[5n${ESC}[6n${ESC}[?6n${ESC}[?15n${ESC}[?26n`],
  ['terminal parameters', `${ESC}[x${ESC}[1x`],
  ['modes asked for', `${ESC}[?1$p${ESC}[4$p${ESC}[?u`],
  ['windows', `${ESC}[8;1;1t${ESC}[2t${ESC}[14t${ESC}[18t${ESC}[3;0;0t`],
  ['answerback', '\u0005'],
  ['the bell', '\u0007'],
  ['mouse', `${ESC}[?1000h${ESC}[?1002h${ESC}[?1003h${ESC}[?1006h${ESC}[?9h`],
  ['focus, paste, keys', `${ESC}[?1004h${ESC}[?2004h${ESC}[?1h${ESC}=${ESC}[>4;2m${ESC}[>1u`],
  ['hidden among good modes', `${ESC}[?25;1000;2004h`],
  ['scrollback', `${ESC}[3J`],
  ['a full reset', `${ESC}c`],
  ['C1', '\u009b31m\u009d0;owned\u009c\u0090$q"p\u009c\u0085\u008d'],
  ['8-bit C1 as bytes', '\ufffd0;owned'],
  ['printing', `${ESC}[5i${ESC}[4i${ESC}[?5i`],
  ['sequences in sequences', `${ESC}[${ESC}]0;owned\u0007${ESC}[3${ESC}[31m`],
  ['a string that another sequence ends', `${ESC}]0;ow${ESC}[31mned\u0007`],
  ['cancelled', `${ESC}]0;own\u0018ed\u0007${ESC}[3\u001a1m`],
  ['a number without end', `${ESC}[${'9'.repeat(500)}C${ESC}[999999999b${ESC}[${'1;'.repeat(500)}m`],
  ['text turned around', '\u202egpj.exe\u202c\u2066x\u2069'],
  ['never closed', `${ESC}]0;owned`],
];

/** Only listed sequences, whole; nothing else of the controls. */
// oxlint-disable-next-line no-control-regex
const HARMLESS =
  // oxlint-disable-next-line no-control-regex
  /^(?:[^\u0000-\u001f\u007f-\u009f]|[\b\t\n\v\f\r\u000e\u000f]|\u001b[78DEMH]|\u001b[()][0AB]|\u001b\[[0-9;:]{0,200}[ABCDEFGHIJKLMPSTXZ@`abdefgmrsuhl]|\u001b\[\?[0-9;]{0,80}[hlJK])*$/u;
const MODES = new Set(['5', '6', '7', '25', '45', '47', '69', '1047', '1048', '1049']);

export function assertHarmless(text: string): void {
  assert.match(text, HARMLESS);
  // oxlint-disable-next-line no-control-regex
  for (const [, modes] of text.matchAll(/\u001b\[\?([0-9;]+)[hl]/g))
    for (const mode of modes!.split(';')) assert.ok(MODES.has(mode), `mode ${mode}`);
  // oxlint-disable-next-line no-control-regex
  assert.doesNotMatch(text, /\u001b\[\??3J|[\u202a-\u202e\u2066-\u2069]/);
}
