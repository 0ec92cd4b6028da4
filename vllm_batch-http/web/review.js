// The way to the records: which schema, which of its tasks, how far they are, and what comes of them.

import { api } from './api.js';
import { agreementSection } from './agreement.js';
import { actionButton, count, debounced, fill, h, labelled, notify, refresh, select, table } from './dom.js';
import { exportSection } from './export.js';
import { inLanguage } from './fields.js';
import { facts, statusBadge } from './queue.js';

/** @typedef {import('./types').CurationTask} CurationTask */

const PAGE = 50;
const STATUSES = /** @type {[string, string][]} */ ([['', 'All'], ['pending', 'Pending'], ['annotated', 'Answered'], ['gold', 'Gold']]);
const STRATEGIES = /** @type {[string, string][]} */ ([
    ['uncertainty', 'Least sure first'], ['disagreement', 'Most disputed first'], ['random', 'In any order']]);

/** What a reviewer chose, kept by the browser. */
export const reviewer = {
    /** @param {'name' | 'strategy' | 'blind' | 'keys'} what */
    get: (what) => localStorage.getItem(`vllm_batch.${what}`) ?? { name: '', strategy: 'uncertainty', blind: '', keys: 'on' }[what],
    /** @param {'name' | 'strategy' | 'blind' | 'keys'} what @param {string} value */
    set: (what, value) => localStorage.setItem(`vllm_batch.${what}`, value),
};

/**
 * Who reviews, and how.
 * @param {() => void} [onChange]
 */
export function reviewerControls(onChange = () => {}) {
    const name = h('input', { type: 'text', value: reviewer.get('name'), autocomplete: 'nickname', maxlength: 64 });
    const strategy = select(STRATEGIES, reviewer.get('strategy'));
    const blind = h('input', { type: 'checkbox', id: 'blind', checked: reviewer.get('blind') === 'on' });
    name.addEventListener('change', () => reviewer.set('name', name.value.trim()));
    strategy.addEventListener('change', () => reviewer.set('strategy', strategy.value));
    blind.addEventListener('change', () => reviewer.set('blind', blind.checked ? 'on' : ''));
    [name, strategy, blind].forEach((control) => control.addEventListener('change', onChange));
    return h('div', { class: 'row' },
        labelled('Your name', name, 'Your answers are kept under it.'),
        labelled('Which task comes next', strategy),
        h('div', { class: 'control' }, h('label', { for: 'blind' }, blind, ' Hide suggestions'),
            h('span', { class: 'hint' }, 'Answers are then yours alone.')));
}

/** @type {import('./app.js').View} */
export async function showSchemas(main, _params, signal) {
    const { data } = await api.schemas(signal);
    const stats = await Promise.all(data.map(({ id }) => api.stats(id, signal)));
    const rows = data.map(({ id, version, name, description }, at) => [
        [h('a', { href: `#/review/${encodeURIComponent(id)}` }, inLanguage(name)), h('div', { class: 'hint' }, inLanguage(description))],
        version, count(stats[at].pending), count(stats[at].annotated), count(stats[at].gold)]);
    fill(main, h('h1', {}, 'Review'),
        h('section', { class: 'card' }, data.length === 0 ? h('p', {}, 'The server has no schemas.')
            : table('What can be reviewed', ['Schema', 'Version', 'Pending', 'Answered', 'Gold'], rows)));
}

/** @type {import('./app.js').View} */
export async function showReview(main, [id], signal) {
    const schema = await api.schema(id, signal);
    const tiles = h('dl', { class: 'tiles' });
    const list = h('div');
    const status = select(STATUSES);
    const search = h('input', { type: 'search' });
    const start = actionButton('Start', () => openNext(id), { class: 'main' });
    const tasks = taskList(id, list, () => ({ status: status.value, q: search.value.trim() }), signal);
    const update = async () => {
        const stats = await api.stats(id, signal);
        fill(tiles, facts([['Tasks', count(stats.total)], ['Pending', count(stats.pending)], ['Answered', count(stats.annotated)],
            ['Gold', count(stats.gold)]]));
        await tasks.reload();
    };
    status.addEventListener('change', tasks.reload);
    search.addEventListener('input', debounced(tasks.reload));
    fill(main,
        h('div', { class: 'head' }, h('h1', {}, inLanguage(schema.name)), start),
        schema.description && h('p', {}, inLanguage(schema.description)),
        tiles,
        h('section', { class: 'card' }, h('h2', {}, 'How you review'), reviewerControls()),
        h('section', { class: 'card' }, h('h2', {}, 'Tasks'),
            h('div', { class: 'row' }, labelled('Status', status), labelled('Search by record', search)), list,
            h('div', { class: 'actions' },
                schema.gold.manual && goldButton('Make chosen gold', true, tasks.chosen, update),
                schema.gold.manual && goldButton('Take gold from chosen', false, tasks.chosen, update))),
        agreementSection(schema),
        exportSection(schema));
    await update();
}

/**
 * Opens the task that is worth most.
 * @param {string} schema
 * @param {string} [after] the record that has just been open
 */
export async function openNext(schema, after) {
    const annotator = reviewer.get('name');
    if (!annotator) {
        throw new Error('Say your name first: your answers are kept under it.');
    }
    const task = await api.nextTask({ schema, strategy: reviewer.get('strategy'), annotator, after });
    location.hash = task ? taskLink(schema, task.id) : `#/review/${encodeURIComponent(schema)}`;
    if (!task) {
        notify('You have seen all tasks.');
    }
}

/**
 * @param {string} schema
 * @param {string} task
 */
const taskLink = (schema, task) => `#/review/${encodeURIComponent(schema)}/${encodeURIComponent(task)}`;

/** @param {{ agent: { name: string } }[]} said */
const names = (said) => said.map(({ agent }) => agent.name).join(', ');

/**
 * Tasks with boxes to choose them, page after page.
 * @param {string} schema
 * @param {Element} place
 * @param {() => { status: string, q: string }} filter
 * @param {AbortSignal} signal
 */
function taskList(schema, place, filter, signal) {
    /** @type {CurationTask[]} */
    let shown = [];
    /** @type {Map<string, HTMLInputElement>} */
    let boxes = new Map();
    let asked = 0;
    /** @param {string} [after] */
    const load = async (after) => {
        asked += 1;
        const mine = asked;
        const page = await api.tasks({ schema, ...filter(), after, limit: PAGE }, signal);
        // What was asked for earlier may come later.
        if (mine !== asked) {
            return;
        }
        shown = after === undefined ? page.data : [...shown, ...page.data];
        const before = boxes;
        boxes = new Map(shown.map(({ id, record_id: record }) => [id, h('input', {
            type: 'checkbox', 'aria-label': `Choose ${record}`, checked: after !== undefined && before.get(id)?.checked,
        })]));
        const rows = shown.map((task) => [boxes.get(task.id), h('a', { href: taskLink(schema, task.id) }, task.record_id),
            statusBadge(task.status), names(task.responses), names(task.suggestions)]);
        refresh(place,
            rows.length === 0 ? h('p', { class: 'faint' }, 'There are none.')
                : table('By the names of their records', ['Chosen', 'Record', 'Status', 'Answered by', 'Suggested by'], rows),
            page.has_more && actionButton('Show more', () => load(shown.at(-1)?.id)));
    };
    return {
        reload: () => load(),
        chosen: () => shown.filter(({ id }) => boxes.get(id)?.checked).map(({ id }) => id),
    };
}

/**
 * @param {string} text
 * @param {boolean} gold
 * @param {() => string[]} chosen
 * @param {() => Promise<void>} update
 */
function goldButton(text, gold, chosen, update) {
    return actionButton(text, async () => {
        const ids = chosen();
        if (ids.length === 0) {
            throw new Error('Choose tasks first, by the boxes before them.');
        }
        const { marked } = await api.setGold(ids, gold, reviewer.get('name'));
        await update();
        notify(`${count(marked.length)} tasks marked.`);
    });
}
