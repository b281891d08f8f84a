/** Where this folder tells what it can not tell a caller. */
export type KubeLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;
