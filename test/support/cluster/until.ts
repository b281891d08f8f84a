/** Waits until `holds`; throws after `guardMs` (default 30 s), which is no measurement but a guard. */
export async function until(holds: () => boolean | Promise<boolean>, what = 'it', guardMs = 30_000): Promise<void> {
  const end = performance.now() + guardMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`${what} did not come true within ${guardMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
