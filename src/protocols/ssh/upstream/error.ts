// A target that could not be reached or logged in to. Message and hint may be told to the client: they hold no secret
// and no text of the target's but
// names of algorithms.
export class UpstreamError extends Error {
  readonly code: 'Unreachable' | 'Forbidden' | 'HostKey' | 'Transport' | 'Login' | 'Misconfigured' | 'Busy' | 'Ended';
  readonly hint: string | undefined;
  constructor(code: UpstreamError['code'], message: string, hint?: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UpstreamError';
    this.code = code;
    this.hint = hint;
  }
}
