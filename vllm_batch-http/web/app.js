// Which view is shown: the part of the address after `#` says it.

import { key, useKeysFrom } from './api.js';
import { byId, fill, notify, notifyError } from './dom.js';
import { showBatch } from './batch.js';
import { showNewBatch } from './new_batch.js';
import { showQueue } from './queue.js';
import { showReview, showSchemas } from './review.js';
import { showTask } from './task.js';

/**
 * A view puts itself into `main`, begins with a heading, and ends everything that it started with the signal.
 * @typedef {(main: HTMLElement, params: string[], signal: AbortSignal) => Promise<void>} View
 */

/** @type {[pattern: RegExp, title: (params: string[]) => string, view: View][]} */
const VIEWS = [
    [/^#\/queue$/, () => 'Queue', showQueue],
    [/^#\/new$/, () => 'New batch', showNewBatch],
    [/^#\/batches\/([^/]+)$/, ([id]) => `Batch ${id}`, showBatch],
    [/^#\/review$/, () => 'Review', showSchemas],
    [/^#\/review\/([^/]+)$/, ([schema]) => `Review ${schema}`, showReview],
    [/^#\/review\/([^/]+)\/([^/]+)$/, ([schema]) => `Review ${schema}`, showTask],
];
const START = '#/queue';

let leave = new AbortController();

/** @param {boolean} isFirst whether the page has just been opened: then the focus stays where browsers put it */
async function show(isFirst) {
    const hash = location.hash || START;
    const found = VIEWS.map(([pattern, title, view]) => ({ match: pattern.exec(hash), title, view })).find(({ match }) => match);
    if (!found?.match) {
        location.replace(START);
        return;
    }
    leave.abort();
    leave = new AbortController();
    const { signal } = leave;
    const main = byId('main');
    fill(main);
    fill(byId('error'));
    for (const link of document.querySelectorAll('nav a')) {
        const isHere = hash === link.getAttribute('href') || hash.startsWith(`${link.getAttribute('href')}/`);
        link.setAttribute('aria-current', isHere ? 'page' : 'false');
    }
    try {
        const params = found.match.slice(1).map(decodeURIComponent);
        document.title = `${found.title(params)} – vllm_batch`;
        await found.view(main, params, signal);
    } catch (error) {
        if (!signal.aborted) {
            notifyError(error);
        }
    }
    const heading = main.querySelector('h1');
    if (!isFirst && !signal.aborted && heading && !main.contains(document.activeElement)) {
        heading.tabIndex = -1;
        heading.focus();
    }
}

/**
 * Asks for an API key.
 * @param {string} message why
 * @returns {Promise<string | null>}
 */
function askForKey(message) {
    const dialog = /** @type {HTMLDialogElement} */ (byId('key-dialog'));
    const input = /** @type {HTMLInputElement} */ (byId('key-input'));
    byId('key-message').textContent = message;
    input.value = '';
    dialog.returnValue = '';
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener('close', () => {
            const value = dialog.returnValue === 'use' ? input.value.trim() : null;
            if (value !== null) {
                key.set(value);
            }
            resolve(value || null);
        }, { once: true });
    });
}

useKeysFrom(askForKey);
byId('key-form').addEventListener('submit', (event) => {
    event.preventDefault();
    /** @type {HTMLDialogElement} */ (byId('key-dialog')).close('use');
});
byId('key-cancel').addEventListener('click', () => /** @type {HTMLDialogElement} */ (byId('key-dialog')).close());
byId('key-button').addEventListener('click', async () => {
    const value = await askForKey('Leave it empty to use none.');
    if (value !== null || key.get() === null) {
        notify(value ? 'The key is used from now on.' : 'No key is used.');
        await show(false);
    }
});
// The link to the content moves the focus, and is no view.
document.querySelector('.skip')?.addEventListener('click', (event) => {
    event.preventDefault();
    byId('main').focus();
});
window.addEventListener('hashchange', () => show(false));
show(true);
