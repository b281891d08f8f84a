// Debian's Chromium, driven without a screen. What a page says on its console, and what it asks of the network, is kept.
import fs from 'node:fs';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export interface Chromium {
  /** A window of its own: no cookie of another. Certificates of tests are taken. */
  window(options?: BrowserContextOptions): Promise<{ context: BrowserContext; page: Page; console: string[] }>;
  stop(): Promise<void>;
}

export function chromiumPath(): string | undefined {
  return [process.env['CHROMIUM'] ?? '', ...PLACES].find((each) => each !== '' && fs.existsSync(each));
}

export async function startChromium(): Promise<Chromium> {
  const executablePath = chromiumPath();
  if (executablePath === undefined) throw new Error('there is no Chromium: apt-get install chromium');
  const browser: Browser = await chromium.launch({
    executablePath,
    headless: true,
    args: ['--no-sandbox', '--disable-quic', '--disable-background-networking'],
  });
  return {
    async window(options = {}) {
      const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
      context.setDefaultTimeout(15_000);
      const page = await context.newPage();
      const console: string[] = [];
      page.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning')
          console.push(`${message.text()} ${message.location().url}`);
      });
      page.on('pageerror', (error) => console.push(error.message));
      return { context, page, console };
    },
    stop: () => browser.close(),
  };
}
