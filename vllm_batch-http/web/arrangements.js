// Controls for answers that are put together: an order, places in a tree, stretches of a text.

import { orNothing } from './controls.js';
import { actionButton, fill, h, uniqueId } from './dom.js';
import { inLanguage } from './fields.js';

/** @typedef {import('./controls.js').Control} Control */
/** @typedef {import('./types').Question} Question */
/** @typedef {import('./types').Option} Option */

/**
 * Items in an order, moved by buttons. There is no answer before somebody moved one, or said that the order is right.
 * @param {[id: string, name: string][]} all
 * @param {() => void} onChange
 * @returns {Control}
 */
export function ranking(all, onChange) {
    let order = all.map(([id]) => id);
    let isAnswered = false;
    const names = new Map(all);
    const list = h('ol', { class: 'ranked' });
    const state = h('p', { class: 'hint', role: 'status' });
    /** @param {number} at @param {-1 | 1} by @param {string} word */
    const mover = (at, by, word) => h('button', {
        type: 'button', class: 'small',
        'aria-label': `Move ${names.get(order[at])} ${word}`, 'aria-disabled': String(!(at + by in order)),
        onclick: () => {
            if (at + by in order) {
                [order[at], order[at + by]] = [order[at + by], order[at]];
                answer();
                /** @type {HTMLElement} */ (list.children[at + by].querySelectorAll('button')[by < 0 ? 0 : 1]).focus();
            }
        },
    }, by < 0 ? '↑' : '↓');
    const show = () => {
        fill(list, order.map((id, at) =>
            h('li', {}, h('div', {}, h('span', {}, names.get(id) ?? id), mover(at, -1, 'up'), mover(at, 1, 'down')))));
        state.textContent = isAnswered ? 'This order is the answer.' : 'There is no answer yet.';
    };
    const answer = () => {
        isAnswered = true;
        show();
        onChange();
    };
    show();
    return {
        element: h('div', {}, list, h('div', { class: 'actions' }, actionButton('This order is right', async () => answer(), { class: 'small' }), state)),
        read: () => (isAnswered ? order : undefined),
        write: (value) => {
            isAnswered = Array.isArray(value);
            order = Array.isArray(value) ? [...value] : all.map(([id]) => id);
            show();
        },
    };
}

/**
 * Terms of a tree.
 * @param {Extract<Question, { type: 'taxonomy' }>} question
 * @param {() => void} onChange
 * @returns {Control}
 */
export function taxonomy({ tree, multiple }, onChange) {
    const name = uniqueId('term');
    /** @type {[path: string[], input: HTMLInputElement][]} */
    const inputs = [];
    /** @param {Option[]} nodes @param {string[]} above @returns {HTMLElement} */
    const level = (nodes, above) => h('ul', { class: 'tree' }, nodes.map(({ value, label, children }) => {
        const path = [...above, value];
        const input = h('input', { type: multiple ? 'checkbox' : 'radio', name, onchange: onChange });
        inputs.push([path, input]);
        return h('li', {}, h('label', {}, input, inLanguage(label)), children?.length ? level(children, path) : null);
    }));
    return {
        element: level(tree, []),
        read: () => orNothing(inputs.filter(([, { checked }]) => checked).map(([path]) => path)),
        write: (value) => {
            const chosen = new Set((Array.isArray(value) ? value : []).map((path) => JSON.stringify(path)));
            inputs.forEach(([path, input]) => (input.checked = chosen.has(JSON.stringify(path))));
        },
    };
}

/**
 * Labelled stretches of a text: select some of it, then press a label.
 * @param {Extract<Question, { type: 'span' }>} question
 * @param {string} value the text
 * @param {() => void} onChange
 * @returns {Control}
 */
export function spans(question, value, onChange) {
    /** @type {{ start: number, end: number, label: string }[] | undefined} */
    let marked;
    const characters = [...value];
    const starts = characterStarts(characters);
    const area = h('textarea', { readonly: true, rows: 8, 'aria-label': 'Text to select in' });
    area.value = value;
    const list = h('ul');
    const change = (/** @type {typeof marked} */ next) => {
        marked = next?.toSorted((a, b) => a.start - b.start || a.end - b.end);
        fill(list, marked?.length === 0 && h('li', {}, 'There are none in this text.'), (marked ?? []).map(item));
        onChange();
    };
    const item = (/** @type {NonNullable<typeof marked>[number]} */ span) => {
        const words = spanText(question, characters, span);
        const remove = () => change(marked?.filter((one) => one !== span));
        return h('li', {}, words, ' ', h('button', { type: 'button', class: 'small', 'aria-label': `Remove ${words}`, onclick: remove }, '×'));
    };
    const add = (/** @type {string} */ label) => {
        const span = { start: starts[area.selectionStart], end: starts[area.selectionEnd], label };
        if (span.start < span.end) {
            change([...(marked ?? []), span]);
        }
    };
    const labels = question.labels.map(({ value: label, label: name }, at) =>
        h('button', { type: 'button', class: 'small', onclick: () => add(label) },
            at < 9 && h('kbd', { 'aria-hidden': 'true' }, String(at + 1)), inLanguage(name)));
    return {
        element: h('div', {}, area, h('div', { class: 'actions' }, h('span', { class: 'hint' }, 'Select some text, then its label:'), labels,
            h('button', { type: 'button', class: 'small', onclick: () => change([]) }, 'None in this text')), list),
        read: () => marked,
        write: (next) => change(Array.isArray(next) ? next : undefined),
        choose: (at) => labels[at]?.click(),
    };
}

/**
 * The character that each unit of a text area's value belongs to. A text area has UTF-16, and one unit for each line end.
 * @param {string[]} characters
 */
function characterStarts(characters) {
    const units = characters.flatMap((character, at) =>
        (character === '\r' && characters[at + 1] === '\n' ? [] : new Array(character.length).fill(at)));
    return [...units, characters.length];
}

/**
 * @param {Extract<Question, { type: 'span' }>} question
 * @param {string[]} characters
 * @param {{ start: number, end: number, label: string }} span
 */
export function spanText({ labels }, characters, { start, end, label }) {
    const name = labels.find(({ value }) => value === label)?.label;
    return `${inLanguage(name) || label}: “${characters.slice(start, end).join('')}”`;
}
