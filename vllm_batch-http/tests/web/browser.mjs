// A real browser and a real server for the tests of the page. `scripts/test_web.sh` starts the server and says where all is.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const { WEB_SERVER: server, WEB_TOOLS: tools, WEB_CHROMIUM: executablePath, WEB_SCREENSHOTS: screenshots } = process.env;
assert(server && tools && executablePath && screenshots, 'run scripts/test_web.sh');
const require = createRequire(`${tools}/`);
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
mkdirSync(screenshots, { recursive: true });

/** Windows that people have. */
export const WINDOWS = {
    desktop: { viewport: { width: 1280, height: 900 }, colorScheme: 'light' },
    dark: { viewport: { width: 1280, height: 900 }, colorScheme: 'dark' },
    narrow: { viewport: { width: 360, height: 740 }, colorScheme: 'light', hasTouch: true },
};

/** Starts the browser. */
export function launch() {
    return chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
}

/** A page of its own in a window; what goes wrong in it, or is asked of elsewhere, fails the test at `close`. */
export async function open(browser, hash = '', window = WINDOWS.desktop) {
    const context = await browser.newContext({ ...window, baseURL: server, acceptDownloads: true, reducedMotion: 'reduce' });
    const page = await context.newPage();
    const wrong = [];
    page.on('pageerror', (error) => wrong.push(String(error)));
    page.on('console', (message) => /Content.Security.Policy|Trusted/i.test(message.text()) && wrong.push(message.text()));
    page.on('request', (request) => /^(https?|wss?):/.test(request.url()) && !request.url().startsWith(server) && wrong.push(request.url()));
    page.setDefaultTimeout(30_000);
    await page.goto(`/page/${hash}`);
    await page.locator('h1').waitFor();
    return { page, close: async () => { await context.close(); assert.deepEqual(wrong, []); } };
}

/** Asks the API as a program would. */
export async function call(method, route, body) {
    const response = await fetch(new URL(route, server), {
        method,
        headers: body ? { 'content-type': 'application/json' } : {},
        body: body && JSON.stringify(body),
    });
    const text = await response.text();
    assert(response.ok, `${method} ${route}: ${response.status} ${text}`);
    return JSON.parse(text);
}

/** All rules of WCAG 2.2 up to AA, and good practice, that a program can check. */
export async function checkAccessibility(page, name) {
    await page.evaluate(AXE);
    const violations = await page.evaluate(async () => (await axe.run(document, { resultTypes: ['violations'] })).violations);
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n  ')}`);
    assert.deepEqual(found, [], name);
}

/** Nothing is wider than the window. */
export async function checkFits(page, name) {
    const { wide, width } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, width: innerWidth }));
    assert(wide <= width, `${name} is ${wide} wide in a window of ${width}`);
}

/** A picture for people to look at. */
export const screenshot = (page, name) => page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
