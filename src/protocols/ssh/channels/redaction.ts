// Hides what command lines are known to carry and records and approvers must not see: passwords as options, variables
// and in URLs, tokens in headers, private keys; and whatever the detectors know by its looks. Nothing else is found.
import { maskDetectedText } from '../../../policy/detectors/detectors.ts';

const HIDDEN = '***';

const FORMS: readonly RegExp[] = [
  // PGPASSWORD=…, API_TOKEN='…', --password=…, --client-secret …
  /((?:[A-Za-z0-9_]*(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)[A-Za-z0-9_]*)=)("[^"]*"|'[^']*'|[^\s;&|<>]+)/gi,
  /((?:^|\s)--?[a-z0-9-]*(?:password|passwd|passphrase|secret|token|api-?key)(?:=|\s+))("[^"]*"|'[^']*'|[^\s;&|<>-][^\s;&|<>]*)/gi,
  // user:password@ of a URL
  /([a-z][a-z0-9+.-]*:\/\/[^\s:/@'"]*:)([^\s@'"]+)(?=@)/gi,
  /((?:authorization|proxy-authorization|x-api-key)\s*:\s*(?:(?:bearer|basic|token)\s+)?)([^\s'"]+)/gi,
  // mysql -pSECRET, curl -u user:SECRET
  /(\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^;&|]*?\s-p)([^\s;&|]+)/gi,
  /(\bcurl\b[^;&|]*?\s(?:-u|--user)[\s=]*['"]?[^\s:'"]*:)([^\s'"]+)/gi,
  /(\bsshpass\s+-p\s*)("[^"]*"|'[^']*'|[^\s;&|]+)/gi,
];

const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;

export interface Redacted {
  text: string;
  /** How many values are hidden. */
  hidden: number;
}

export function redactLine(text: string): Redacted {
  let hidden = 0;
  let shown = text.replace(PRIVATE_KEY, () => {
    hidden += 1;
    return HIDDEN;
  });
  for (const form of FORMS) {
    shown = shown.replace(form, (_whole, before: string, value: string) => {
      if (value !== HIDDEN) hidden += 1;
      return `${before}${HIDDEN}`;
    });
  }
  const masked = maskDetectedText(shown);
  return { text: masked, hidden: masked === shown ? hidden : hidden + 1 };
}
