// One file that `npm run generate` makes.
export interface Generated {
  /** Relative to the repository. */
  path: string;
  /** The whole content. Deterministic: no time, no randomness, no machine. */
  render(): string | Promise<string>;
}
