// The queue, live: what runs, what waits, who works, and what has ended.

import { api } from './api.js';
import { actionButton, announce, count, decimal, duration, fill, h, moment, poll, refresh, shown, table } from './dom.js';

/** @typedef {import('./types').Batch} Batch */

const SECONDS = 2;
const PAGE = 20;

/** @type {import('./app.js').View} */
export async function showQueue(main, _params, signal) {
    const [tiles, queue, workers, batches] = [h('dl', { class: 'tiles' }), h('div'), h('div'), h('div')];
    fill(main,
        h('div', { class: 'head' }, h('h1', {}, 'Queue'), h('a', { class: 'button main', href: '#/new' }, 'New batch')),
        tiles,
        h('section', { class: 'card' }, h('h2', {}, 'Running and waiting'), queue),
        h('section', { class: 'card' }, h('h2', {}, 'Workers'), workers),
        h('section', { class: 'card' }, h('h2', {}, 'All batches'), batches));
    const showTiles = shown(tiles, tilesOf);
    const showQueued = shown(queue, queueTable);
    const showWorkers = shown(workers, workerTable);
    const list = batchList(batches, signal);
    await list.update();
    let before = '';
    poll(async () => {
        const report = await api.queue(signal);
        showTiles(report);
        showQueued(report.data);
        showWorkers(report.workers);
        // A batch came or ended: the list of all has changed, too.
        const now = report.data.map((entry) => `${entry.batch_id} ${entry.status}`).join();
        if (now !== before) {
            before = now;
            announce(`${report.data.length} batches are running or waiting.`);
            await list.update();
        }
    }, SECONDS, signal);
}

/** @param {import('./types').QueueReport} report */
function tilesOf({ data, workers, tokens_per_second: rate }) {
    const open = data.reduce((sum, { requests_left: left }) => sum + (left ?? 0), 0);
    return facts([['Batches', count(data.length)], ['Open requests', count(open)], ['Tokens a second', decimal(rate)],
        ['Workers', count(workers.length)]]);
}

/**
 * Numbers with their names, large.
 * @param {string[][]} named
 */
export const facts = (named) => named.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)));

/** @param {import('./types').QueuedBatch[]} queued */
function queueTable(queued) {
    return queued.length === 0 ? h('p', { class: 'faint' }, 'Nothing runs, nothing waits.')
        : table('In the order in which workers take them', ['Place', 'Batch', 'Status', 'Model', 'Done', 'Time left'],
            queued.map((entry) => [entry.position === 0 ? 'running' : count(entry.position), batchLink(entry.batch_id), statusBadge(entry.status), entry.model ?? '',
                progress(entry.request_counts), duration(entry.eta_seconds)]));
}

/** @param {import('./types').Worker[]} workers */
function workerTable(workers) {
    return workers.length === 0 ? h('p', {}, 'No worker is there: batches wait until one is started.')
        : table('Workers that were heard of lately', ['Name', 'Models', 'Tokens/s', 'Since', 'Heard of'],
            workers.map((worker) => [worker.name, worker.models.join(', '), decimal(worker.tokens_per_second),
                moment(worker.started_at), moment(worker.last_seen)]));
}

/**
 * All batches, newest first, with a button for more.
 * @param {Element} place
 * @param {AbortSignal} signal
 */
function batchList(place, signal) {
    let limit = PAGE;
    const update = async () => {
        const { data, has_more: hasMore } = await api.batches({ limit }, signal);
        refresh(place,
            data.length === 0 ? h('p', { class: 'faint' }, 'There are none yet.') : table('Newest first',
                ['Batch', 'Status', 'Endpoint', 'Done', 'Failed', 'Created'],
                data.map((batch) => [batchLink(batch.id), statusBadge(batch.status), batch.endpoint, progress(batch.request_counts),
                    count(batch.request_counts.failed), moment(batch.created_at)])),
            hasMore && limit < 100 && actionButton('Show more', async () => {
                limit = Math.min(limit + PAGE, 100);
                await update();
            }));
    };
    return { update };
}

/** @param {string} id */
const batchLink = (id) => h('a', { class: 'id', href: `#/batches/${encodeURIComponent(id)}`, title: id }, `…${id.slice(-8)}`);

/** @param {string} status */
export const statusBadge = (status) => h('span', { class: `status ${status}` }, status.replace('_', ' '));

/**
 * How much is done, as a bar and in words.
 * @param {{ total: number, completed: number, failed: number }} counts
 */
export function progress({ total, completed, failed }) {
    const done = completed + failed;
    const text = `${count(done)} of ${count(total)}`;
    return h('div', {}, h('progress', { value: done, max: Math.max(total, 1), 'aria-label': 'Requests that are done' }), h('div', {}, text));
}
