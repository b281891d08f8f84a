// Quantities as Kubernetes spells them (API reference, "Quantity"). Pure. The API server rewrites them (`1024Mi` becomes
// `1Gi`), so they are compared by what they mean.

const FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Its value; undefined if it is no quantity. Exact enough to compare and to find the larger of two. */
export function quantityOf(text: string): number | undefined {
  const parts = /^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]{1,3}|[KMGTPE]i|[numkMGTPE]|)$/.exec(text);
  if (parts === null) return undefined;
  const [, digits = '', suffix = ''] = parts;
  return /^[eE]./.test(suffix) ? Number(`${digits}${suffix}`) : Number(digits) * FACTORS[suffix]!;
}

/** The larger of two; what can not be read counts as larger, so that the API server gets to refuse it. */
export function largerQuantity(a: string, b: string): string {
  const [left, right] = [quantityOf(a), quantityOf(b)];
  if (left === undefined) return a;
  if (right === undefined) return b;
  return left >= right ? a : b;
}

export function sameQuantity(a: string, b: string): boolean {
  if (a === b) return true;
  const [left, right] = [quantityOf(a), quantityOf(b)];
  return left !== undefined && right !== undefined && Math.abs(left - right) <= 1e-9 * Math.abs(left);
}
