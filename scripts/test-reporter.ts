// A quiet reporter for node:test: failures whole, skips with their reason, then one line of counts.
import path from 'node:path';
import type { TestEvent } from 'node:test/reporters';

export async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for await (const event of source) {
    if (event.type === 'test:pass') {
      if (event.data.skip !== undefined) {
        skipped += 1;
        yield `skip ${event.data.name}: ${event.data.skip === true ? 'no reason given' : event.data.skip}\n`;
      } else if (event.data.details.type !== 'suite') {
        passed += 1;
      }
    } else if (event.type === 'test:fail') {
      if (event.data.details.type !== 'suite') failed += 1;
      const file =
        event.data.file === undefined
          ? ''
          : ` (${path.relative(process.cwd(), event.data.file)}:${event.data.line ?? 0})`;
      const cause = event.data.details.error?.cause ?? event.data.details.error;
      yield `FAIL ${event.data.name}${file}\n${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}\n\n`;
    } else if (event.type === 'test:diagnostic' && event.data.message.startsWith('Error: ')) {
      // What goes wrong after its test has ended: the run fails, though no test does.
      yield `FAIL ${event.data.message}\n`;
    } else if (event.type === 'test:stderr' && process.env.TEST_OUTPUT === '1') {
      yield event.data.message;
    }
  }
  yield `${passed} passed, ${failed} failed, ${skipped} skipped\n`;
}

// node --test-reporter loads a module's default export.
export { reporter as default };
