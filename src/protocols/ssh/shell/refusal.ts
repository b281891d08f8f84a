/** A line that is not understood. `message` is for people and holds no piece of the line but a program's own name. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}

export function refuse(reason: string): never {
  throw new Refusal(reason);
}
