// Controls for answers that are chosen or written.

import { fill, h, select, uniqueId } from './dom.js';
import { asText } from './fields.js';

/** @typedef {import('./types').Question} Question */

/**
 * What answers a question. `read` answers undefined for no answer and throws an error with a message for one that is not finished;
 * `choose` takes the n-th of a few options, from 0, as the keys do.
 * @typedef {{ element: HTMLElement, read: () => unknown, write: (value: unknown) => void, choose?: (n: number) => void }} Control
 */

/**
 * @param {'radio' | 'checkbox'} type
 * @param {[value: any, label: string, help?: string][]} options
 * @param {() => void} onChange
 */
function buttons(type, options, onChange) {
    const name = uniqueId('option');
    const inputs = options.map(() => h('input', { type, name, onchange: onChange }));
    const labels = options.map(([, label, help], at) =>
        h('label', { title: help }, inputs[at], at < 9 && label !== String(at + 1) && h('kbd', { 'aria-hidden': 'true' }, String(at + 1)), h('span', {}, label)));
    return { inputs, element: h('div', { class: 'options' }, labels) };
}

/**
 * @param {[value: any, label: string, help?: string][]} options
 * @param {boolean} mayBeEmpty
 * @param {() => void} onChange
 * @returns {Control}
 */
export function radios(options, mayBeEmpty, onChange) {
    const { inputs, element } = buttons('radio', options, onChange);
    /** @param {unknown} value */
    const write = (value) => inputs.forEach((input, at) => (input.checked = options[at][0] === value));
    const clear = () => {
        write(undefined);
        onChange();
    };
    if (mayBeEmpty) {
        element.append(h('button', { type: 'button', class: 'small', onclick: clear }, 'No answer'));
    }
    const choose = (/** @type {number} */ at) => {
        inputs[at].focus();
        inputs[at].checked = !(mayBeEmpty && inputs[at].checked);
        onChange();
    };
    return { element, write, choose: (at) => at < inputs.length && choose(at), read: () => options[inputs.findIndex(({ checked }) => checked)]?.[0] };
}

/**
 * @param {[value: any, label: string, help?: string][]} options
 * @param {() => void} onChange
 * @returns {Control}
 */
export function checkBoxes(options, onChange) {
    const { inputs, element } = buttons('checkbox', options, onChange);
    return {
        element,
        read: () => orNothing(options.filter((_, at) => inputs[at].checked).map(([value]) => value)),
        write: (value) => inputs.forEach((input, at) => (input.checked = Array.isArray(value) && value.includes(options[at][0]))),
        choose: (at) => inputs[at]?.click(),
    };
}

/**
 * @param {[value: any, label: string, help?: string][]} options
 * @param {string} labelId
 * @returns {Control}
 */
export function dropDown(options, labelId) {
    const element = select([['', '–'], ...options.map(([, label], at) => /** @type {[string, string]} */ ([String(at), label]))], '',
        { 'aria-labelledby': labelId });
    return {
        element,
        read: () => (element.value === '' ? undefined : options[Number(element.value)][0]),
        write: (value) => {
            const at = options.findIndex(([one]) => one === value);
            element.value = at < 0 ? '' : String(at);
        },
    };
}

/**
 * @param {Extract<Question, { type: 'text' }>} question
 * @param {string} labelId
 */
function textInput({ multiline, max_chars: maxChars }, labelId) {
    // The browser counts otherwise than the server, so the server checks.
    const hint = maxChars ? `at most ${maxChars} characters` : null;
    return multiline ? h('textarea', { 'aria-labelledby': labelId, rows: 4, placeholder: hint })
        : h('input', { type: 'text', 'aria-labelledby': labelId, placeholder: hint });
}

/**
 * @param {Extract<Question, { type: 'text' }>} question
 * @param {string} labelId
 * @returns {Control}
 */
export function text(question, labelId) {
    const element = textInput(question, labelId);
    return { element, read: () => element.value.trim() || undefined, write: (value) => (element.value = asText(value)) };
}

/**
 * Several texts, with a button for one more.
 * @param {Extract<Question, { type: 'text' }>} question
 * @param {string} labelId
 * @param {() => void} onChange
 * @returns {Control}
 */
export function texts(question, labelId, onChange) {
    const list = h('div');
    /** @param {unknown} value */
    const add = (value) => {
        const input = textInput(question, labelId);
        input.value = asText(value);
        const item = h('div', { class: 'item' }, input);
        const remove = () => {
            item.remove();
            more.focus();
            onChange();
        };
        item.append(h('button', { type: 'button', class: 'small', 'aria-label': 'Remove', onclick: remove }, '×'));
        list.append(item);
        return input;
    };
    const more = h('button', { type: 'button', class: 'small', onclick: () => add('').focus() }, 'Add');
    const inputs = () => /** @type {(HTMLInputElement | HTMLTextAreaElement)[]} */ ([...list.querySelectorAll('input, textarea')]);
    return {
        element: h('div', {}, list, more),
        read: () => orNothing(inputs().map(({ value }) => value.trim()).filter(Boolean)),
        write: (value) => {
            fill(list);
            (Array.isArray(value) ? value : []).forEach(add);
        },
    };
}

/**
 * A number, or a rating on a long scale.
 * @param {{ min?: number, max?: number, step?: number, integer?: boolean, unit?: string, type: string }} question
 * @param {string} labelId
 * @returns {Control}
 */
export function number({ min, max, step, integer, unit, type }, labelId) {
    const isWhole = integer || type === 'rating';
    const input = h('input', { type: 'number', min, max, step: step ?? (isWhole ? 1 : 'any'), 'aria-labelledby': labelId });
    return {
        element: unit ? h('div', { class: 'item' }, input, h('span', {}, unit)) : input,
        read: () => {
            if (input.validity.badInput) {
                throw new Error('This is not a number.');
            }
            return Number.isNaN(input.valueAsNumber) ? undefined : input.valueAsNumber;
        },
        write: (value) => (input.value = asText(value)),
    };
}

/**
 * @param {Extract<Question, { type: 'date' }>} question
 * @param {string} labelId
 * @returns {Control}
 */
export function date({ only }, labelId) {
    const element = h('input', { 'aria-labelledby': labelId, type: only === 'date' ? 'date' : 'text',
        placeholder: only === 'year' ? '2026' : '2026-01-31T12:30:00Z' });
    return { element, read: () => element.value.trim() || undefined, write: (value) => (element.value = asText(value)) };
}

/**
 * @param {Extract<Question, { type: 'structured' }>} question
 * @param {string} labelId
 * @returns {Control}
 */
export function json({ schema }, labelId) {
    const area = h('textarea', { class: 'code', rows: 8, spellcheck: 'false', 'aria-labelledby': labelId });
    return {
        element: h('div', {}, area,
            h('details', {}, h('summary', {}, 'What it consists of (JSON Schema)'), h('pre', { tabindex: 0 }, JSON.stringify(schema, null, 2)))),
        read: () => {
            if (!area.value.trim()) {
                return undefined;
            }
            try {
                return JSON.parse(area.value);
            } catch (error) {
                throw new Error(`This is not JSON: ${/** @type {Error} */ (error).message}`);
            }
        },
        write: (value) => (area.value = value === undefined ? '' : JSON.stringify(value, null, 2)),
    };
}

/**
 * A list, or no answer if it is empty.
 * @template T
 * @param {T[]} list
 */
export function orNothing(list) {
    return list.length > 0 ? list : undefined;
}
