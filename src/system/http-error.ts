// What a request over HTTP is refused with: a status, a sentence, and what to do next. The message is for whoever asked.
export class HttpError extends Error {
  readonly status: number;
  readonly hint: string | undefined;
  constructor(status: number, message: string, hint?: string) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}
