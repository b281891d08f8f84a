// Hides what command lines are known to carry and records and approvers must not see: passwords as options, variables
// and in URLs, tokens in headers, private keys; and whatever the detectors know by its looks. Nothing else is found.
import { maskDetectedText } from '../../../policy/detectors/detectors.ts';

const HIDDEN = '***';

// Lines come from strangers: every form begins with a fixed word and repeats nothing without a bound.
const FORMS: readonly RegExp[] = [
  // PGPASSWORD=…, API_TOKEN='…', --password=…
  /((?:PASSWORD|PASSWD|PASSPHRASE|MYSQL_PWD|SECRET|TOKEN|API[_-]?KEY|ACCESS[_-]?KEY|PRIVATE[_-]?KEY)[A-Za-z0-9_]{0,32}=)("[^"]*"|'[^']*'|[^\s;&|<>]+)/gi,
  // --password …, --client-secret …
  /((?:password|passwd|passphrase|secret|token|api-?key)(?<=\s--?[a-z0-9-]{1,48})\s{1,8})("[^"]*"|'[^']*'|[^\s;&|<>-][^\s;&|<>]*)/gi,
  // user:password@ of a URL
  /(:\/\/[^\s:/@'"]{0,128}:)([^\s@'"]{1,256})(?=@)/g,
  /((?:authorization|x-api-key|[a-z]{1,16}-token)\s{0,4}:\s{0,4}(?:(?:bearer|basic|token)\s{1,4})?)([^\s'"]+)/gi,
  /((?:set-)?cookie\s{0,4}:\s{0,4})([^'"]{1,4096})(?=['"])/gi,
  // "password": "…" of JSON
  /("(?:[a-z_-]{0,32})(?:password|passwd|passphrase|secret|token|api_?key)"\s{0,4}:\s{0,4}")([^"]*)/gi,
  // mysql -pSECRET, curl -u user:SECRET, sshpass -p SECRET
  /((?:mysql|mysqldump|mysqladmin|mariadb)\b[^;&|]{0,256}?\s-p)("[^"]*"|'[^']*'|[^\s;&|]+)/gi,
  /(curl\b[^;&|]{0,256}?\s(?:-u|--user)[\s=]{0,4}['"]?[^\s:'"]{0,128}:)([^\s'"]+)/gi,
  /(sshpass\s{1,8}-p\s{0,8})("[^"]*"|'[^']*'|[^\s;&|]+)/gi,
  // redis-cli -a, ldapsearch -w, mongosh -p, docker login -p, zip -P
  /(redis-cli\b[^;&|]{0,256}?\s-a\s{0,4})("[^"]*"|'[^']*'|[^\s;&|]+)/gi,
  /((?:ldap(?:search|modify|add|delete|whoami|passwd))\b[^;&|]{0,256}?\s-w\s{0,4})("[^"]*"|'[^']*'|[^\s;&|]+)/gi,
  /((?:mongosh|mongo|mongodump|mongorestore|(?:docker|podman|helm registry) login)\b[^;&|]{0,256}?\s-p\s{0,4})("[^"]*"|'[^']*'|[^\s;&|]+)/gi,
  /(\b(?:zip|unzip)\b[^;&|]{0,256}?\s-P\s{1,4})("[^"]*"|'[^']*'|[^\s;&|]+)/g,
  // smbclient -U user%SECRET, openssl -passin pass:SECRET, htpasswd -b file user SECRET
  /(\b(?:smbclient|rpcclient|net)\b[^;&|]{0,256}?\s-U\s{0,4}['"]?[^\s%'"]{1,128}%)([^\s'"]+)/g,
  /(\s-pass(?:in|out)?\s{1,4}pass:)([^\s;&|]+)/g,
  /(htpasswd\s(?:[^;&|\s]{1,128}\s){0,4}?-[a-zA-Z]{0,4}b[a-zA-Z]{0,4}\s{1,4}[^\s;&|]{1,256}\s{1,4}[^\s;&|]{1,128}\s{1,4})([^\s;&|]+)/g,
  // echo user:SECRET | chpasswd, chpasswd <<< user:SECRET; not what else reads, which whoever consents has to see
  /(\b(?:echo|printf)\s[^;&|]{0,128}?\b[\w.-]{1,64}:)([^\s;&|'"]+)(?=['"]?\s{0,4}\|\s{0,4}(?:sudo\s{1,4})?chpasswd)/g,
  /(\bchpasswd\b[^;&|<]{0,64}<<<\s{0,4}['"]?[\w.-]{1,64}:)([^\s;&|'"]+)/g,
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
