// Hides what command lines are known to carry and records and approvers must not see: passwords as options, variables
// and in URLs, tokens in headers, private keys; and whatever the detectors know by its looks. Nothing else is found.
import { maskDetectedText } from '../../../policy/detectors/detectors.ts';

const HIDDEN = '***';

// Lines come from strangers: every form begins with a fixed word and repeats nothing without a bound.
const FORMS: readonly RegExp[] = [
  // PGPASSWORD=…, API_TOKEN='…', --password=…
  /((?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API[_-]?KEY|ACCESS[_-]?KEY|PRIVATE[_-]?KEY)[A-Za-z0-9_]{0,32}=)("[^"]*"|'[^']*'|[^\s;&|<>]+)/gi,
  // --password …, --client-secret …
  /((?:password|passwd|passphrase|secret|token|api-?key)(?<=\s--?[a-z0-9-]{1,48})\s{1,8})("[^"]*"|'[^']*'|[^\s;&|<>-][^\s;&|<>]*)/gi,
  // user:password@ of a URL
  /(:\/\/[^\s:/@'"]{0,128}:)([^\s@'"]{1,256})(?=@)/g,
  /((?:authorization|x-api-key)\s{0,4}:\s{0,4}(?:(?:bearer|basic|token)\s{1,4})?)([^\s'"]+)/gi,
  // mysql -pSECRET, curl -u user:SECRET, sshpass -p SECRET
  /((?:mysql|mysqldump|mysqladmin|mariadb)\b[^;&|]{0,256}?\s-p)([^\s;&|]+)/gi,
  /(curl\b[^;&|]{0,256}?\s(?:-u|--user)[\s=]{0,4}['"]?[^\s:'"]{0,128}:)([^\s'"]+)/gi,
  /(sshpass\s{1,8}-p\s{0,8})("[^"]*"|'[^']*'|[^\s;&|]+)/gi,
];

const PRIVATE_KEY = /-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,24}PRIVATE KEY-----|$)/g;

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
