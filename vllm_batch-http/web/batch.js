// One batch: how far it is, what went wrong, and what can be done with it.

import { api, saveFile } from './api.js';
import { actionButton, announce, count, duration, fill, h, moment, notify, percent, poll, refresh, table } from './dom.js';
import { facts, progress, statusBadge } from './queue.js';

/** @typedef {import('./types').Batch} Batch */

const SECONDS = 2;
const ENDED = ['failed', 'completed', 'expired', 'cancelled'];

/** @type {import('./app.js').View} */
export async function showBatch(main, [id], signal) {
    const batch = await api.batch(id, signal);
    const status = h('span');
    const actions = h('div', { class: 'actions' });
    const state = h('div');
    const details = h('dl', { class: 'facts' });
    const errors = h('div');
    const failed = h('div');
    fill(main,
        h('div', { class: 'head' }, h('h1', {}, 'Batch ', h('span', { class: 'id' }, id), ' ', status), actions),
        h('section', { class: 'card' }, h('h2', {}, 'Progress'), state),
        errors, failed,
        h('section', { class: 'card' }, h('h2', {}, 'Details'), details));
    /** @type {Batch | null} */
    let before = null;
    /** @param {Batch} now */
    const show = async (now) => {
        if (JSON.stringify(now) !== JSON.stringify(before)) {
            fill(status, statusBadge(now.status));
            fill(state, ...progressOf(now));
            fill(details, ...factsOf(now));
            refresh(actions, ...actionsOf(now, show));
            fill(errors, problems(now));
            tell(before, now);
            if (now.request_counts.failed !== before?.request_counts.failed && now.request_counts.failed > 0) {
                fill(failed, await failedRows(now, signal));
            }
            before = now;
        }
        return !ENDED.includes(now.status);
    };
    if (await show(batch)) {
        poll(async () => show(await api.batch(id, signal)), SECONDS, signal);
    }
}

/**
 * Says what has changed, in steps of a tenth.
 * @param {Batch | null} before
 * @param {Batch} now
 */
function tell(before, now) {
    if (before && before.status !== now.status) {
        announce(`The batch is ${now.status.replace('_', ' ')}.`);
    } else if (before && Math.floor(shareOf(now) * 10) > Math.floor(shareOf(before) * 10)) {
        announce(`${percent(shareOf(now))} done`);
    }
}

/** @param {Batch} batch */
function shareOf({ request_counts: { total, completed, failed } }) {
    return total === 0 ? 0 : (completed + failed) / total;
}

/** @param {Batch} batch */
function progressOf(batch) {
    const { completed, failed, total } = batch.request_counts;
    const since = batch.in_progress_at;
    const until = batch.completed_at ?? batch.cancelled_at ?? batch.expired_at ?? batch.failed_at;
    const seconds = since && (until ?? Date.now() / 1000) - since;
    const tiles = [
        ['Answered', count(completed)],
        ['Failed', count(failed)],
        ['In all', count(total)],
        ['Running for', seconds ? duration(seconds) : '–'],
        ['Output tokens', count(batch.usage?.output_tokens ?? 0)],
        ['Output tokens a second', seconds && batch.usage ? count(batch.usage.output_tokens / Math.max(seconds, 1)) : '–'],
    ];
    if (!until && seconds && completed + failed > 0) {
        tiles.push(['Left, at this rate', duration((seconds / (completed + failed)) * (total - completed - failed))]);
    }
    return [progress(batch.request_counts),
        h('dl', { class: 'tiles' }, facts(tiles))];
}

/** @param {Batch} batch */
function factsOf(batch) {
    /** @type {[string, import('./dom.js').Child][]} */
    const named = [
        ['Model', batch.model], ['Endpoint', batch.endpoint], ['Input file', batch.input_file_id],
        ['To be done within', batch.completion_window], ['Priority', batch.priority ? String(batch.priority) : null],
        ['Created', moment(batch.created_at)], ['Started', moment(batch.in_progress_at)],
        ['Completed', moment(batch.completed_at)], ['Failed', moment(batch.failed_at)],
        ['Cancelled', moment(batch.cancelled_at ?? batch.cancelling_at)], ['Expired', moment(batch.expired_at)],
        ['Expires', ENDED.includes(batch.status) ? null : moment(batch.expires_at)],
        ['Input tokens', batch.usage && inputTokens(batch.usage)],
        ...Object.entries(batch.metadata ?? {}),
    ];
    return named.filter(([, value]) => value).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]);
}

/** @param {NonNullable<Batch['usage']>} usage */
const inputTokens = ({ input_tokens: all, input_tokens_details: { cached_tokens: cached } }) => `${count(all)}, ${count(cached)} of them cached`;

/**
 * What can be done with a batch of this status.
 * @param {Batch} batch
 * @param {(batch: Batch) => Promise<unknown>} show
 */
function actionsOf(batch, show) {
    const { output_file_id: output, error_file_id: errors, id, status } = batch;
    const [schema] = batch.metadata?.curation_schema?.split('@') ?? [];
    return [
        schema && status === 'completed' && h('a', { class: 'button', href: `#/review/${encodeURIComponent(schema)}` }, 'Review answers'),
        output && actionButton('Download answers', () => saveFile(output, `${id}_output.jsonl`), { class: 'main' }),
        errors && actionButton('Download errors', () => saveFile(errors, `${id}_errors.jsonl`)),
        errors && actionButton('Retry failed rows', async () => {
            const { id: next } = await api.retryFailed(id);
            location.hash = `#/batches/${encodeURIComponent(next)}`;
            notify('The failed rows are a batch of their own now.');
        }),
        !ENDED.includes(status) && status !== 'cancelling' && actionButton('Cancel', async () => {
            if (window.confirm('Cancel this batch? What is done is kept.')) {
                await show(await api.cancelBatch(id));
            }
        }),
    ];
}

/**
 * What is wrong with the input file.
 * @param {Batch} batch
 */
function problems({ errors }) {
    const rows = (errors?.data ?? []).map(({ line, code, param, message }) => [lineNumber(line), h('code', {}, code ?? ''), param, message]);
    return rows.length > 0 && h('section', { class: 'card' }, h('h2', {}, 'The file was refused'),
        table('Mend these lines, and upload it again', ['Line', 'Code', 'Parameter', 'Message'], rows));
}

/**
 * Rows that ended with an error.
 * @param {Batch} batch
 * @param {AbortSignal} signal
 */
async function failedRows({ id }, signal) {
    const { data, has_more: hasMore } = await api.failedRows(id, signal);
    // Only what is found wrong before a row runs has a line.
    const hasLines = data.some(({ line }) => line);
    const rows = data.map(({ line, custom_id: customId, code, message }) =>
        [...(hasLines ? [lineNumber(line)] : []), h('span', { class: 'id' }, customId ?? ''), h('code', {}, code ?? ''), message]);
    return rows.length > 0 && h('section', { class: 'card' }, h('h2', {}, 'Failed rows'),
        table(hasMore ? `The first ${count(rows.length)}; the file of errors has all` : 'All of them',
            [...(hasLines ? ['Line'] : []), 'Request', 'Code', 'Message'], rows));
}

/** @param {number | null | undefined} line */
const lineNumber = (line) => (line ? count(line) : '');
