// How a question is answered: one control for each kind, and an answer in words.

import { actionButton, fill, h, select, uniqueId } from './dom.js';
import { asText, inLanguage } from './fields.js';

/** @typedef {import('./types').Question} Question */
/** @typedef {import('./types').Option} Option */
/** @typedef {Record<string, any>} Fields */

/**
 * What answers a question. `read` answers undefined for no answer and throws an error with a message for one that is not finished;
 * `choose` takes the n-th of a few options, from 0, as the keys do.
 * @typedef {{ element: HTMLElement, read: () => unknown, write: (value: unknown) => void, choose?: (n: number) => void }} Control
 */

/** More than so many options are a list to choose from. */
const MAX_BUTTONS = 30;
/** More steps than these are a number to write. */
const MAX_STEPS = 11;

/**
 * @param {Question} question
 * @param {Fields} fields of the record
 * @param {Record<string, string>} fieldTitles
 * @param {string} labelId of the element that names the question
 * @param {() => void} onChange
 * @returns {Control}
 */
export function controlFor(question, fields, fieldTitles, labelId, onChange) {
    switch (question.type) {
        case 'text':
            return question.many ? texts(question, labelId, onChange) : text(question, labelId);
        case 'number':
            return number(question, labelId);
        case 'date':
            return date(question, labelId);
        case 'structured':
            return json(question, labelId);
        case 'ranking':
            return ranking(items(fields[question.field]), onChange);
        case 'taxonomy':
            return taxonomy(question, onChange);
        case 'span':
            return spans(question, asText(fields[question.field]), onChange);
        default: {
            const options = optionsOf(question, fieldTitles);
            if (options === null) {
                return number(question, labelId);
            }
            return question.type === 'choice' && question.multiple ? checkBoxes(options, onChange)
                : options.length > MAX_BUTTONS ? dropDown(options, labelId) : radios(options, !question.required, onChange);
        }
    }
}

/**
 * An answer in words, as people chose it.
 * @param {Question} question
 * @param {any} answer
 * @param {Fields} fields
 * @param {Record<string, string>} fieldTitles
 * @returns {string}
 */
export function answerText(question, answer, fields, fieldTitles) {
    switch (question.type) {
        case 'ranking': {
            const names = new Map(items(fields[question.field]));
            return answer.map((/** @type {string} */ id) => names.get(id) ?? id).join(' › ');
        }
        case 'taxonomy':
            return answer.map((/** @type {string[]} */ path) => path.join(' › ')).join(', ');
        case 'span': {
            const characters = [...asText(fields[question.field])];
            return answer.map((/** @type {any} */ span) => spanText(question, characters, span)).join(', ') || 'none';
        }
        default: {
            const names = new Map(optionsOf(question, fieldTitles) ?? []);
            const words = (Array.isArray(answer) && question.type !== 'structured' ? answer : [answer]).map((one) => names.get(one) ?? asText(one));
            return words.join(', ');
        }
    }
}

/**
 * The few answers that a question takes, and what people see for them; null if it takes others.
 * @param {Question} question
 * @param {Record<string, string>} fieldTitles
 * @returns {[value: any, label: string, help?: string][] | null}
 */
function optionsOf(question, fieldTitles) {
    if (question.type === 'boolean') {
        return [[true, inLanguage(question.yes)], [false, inLanguage(question.no)]];
    }
    if (question.type === 'preference') {
        const sides = /** @type {[string, string][]} */ ([['left', fieldTitles[question.left]], ['right', fieldTitles[question.right]]]);
        return question.tie ? [...sides, ['tie', 'Equally good']] : sides;
    }
    if ((question.type === 'choice' || question.type === 'rating') && question.options) {
        return question.options.map(({ value, label, help }) => [value, inLanguage(label), inLanguage(help)]);
    }
    if (question.type === 'rating' && question.min !== undefined && question.max !== undefined && question.max - question.min < MAX_STEPS) {
        const { min, max } = question;
        return Array.from({ length: max - min + 1 }, (_, step) => [min + step, String(min + step)]);
    }
    return null;
}

/**
 * @param {'radio' | 'checkbox'} type
 * @param {[value: any, label: string, help?: string][]} options
 * @param {() => void} onChange
 */
function buttons(type, options, onChange) {
    const name = uniqueId('option');
    const inputs = options.map(() => h('input', { type, name, onchange: onChange }));
    const labels = options.map(([, label, help], at) =>
        h('label', { title: help }, inputs[at], at < 9 && h('kbd', { 'aria-hidden': 'true' }, String(at + 1)), h('span', {}, label)));
    return { inputs, element: h('div', { class: 'options' }, labels) };
}

/**
 * @param {[value: any, label: string, help?: string][]} options
 * @param {boolean} mayBeEmpty
 * @param {() => void} onChange
 * @returns {Control}
 */
function radios(options, mayBeEmpty, onChange) {
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
function checkBoxes(options, onChange) {
    const { inputs, element } = buttons('checkbox', options, onChange);
    return {
        element,
        read: () => orNothing(options.filter((_, at) => inputs[at].checked).map(([value]) => value)),
        write: (value) => inputs.forEach((input, at) => (input.checked = Array.isArray(value) && value.includes(options[at][0]))),
        choose: (at) => inputs[at]?.click(),
    };
}

/**
 * @param {[value: any, label: string][]} options
 * @param {string} labelId
 * @returns {Control}
 */
function dropDown(options, labelId) {
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
function text(question, labelId) {
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
function texts(question, labelId, onChange) {
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
function number({ min, max, step, integer, unit, type }, labelId) {
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
function date({ only }, labelId) {
    const element = h('input', { 'aria-labelledby': labelId, type: only === 'date' ? 'date' : 'text',
        placeholder: only === 'year' ? '2026' : '2026-01-31T12:30:00Z' });
    return { element, read: () => element.value.trim() || undefined, write: (value) => (element.value = asText(value)) };
}

/**
 * @param {Extract<Question, { type: 'structured' }>} question
 * @param {string} labelId
 * @returns {Control}
 */
function json({ schema }, labelId) {
    const area = h('textarea', { class: 'code', rows: 8, spellcheck: 'false', 'aria-labelledby': labelId });
    return {
        element: h('div', {}, area, h('details', {}, h('summary', {}, 'What it consists of (JSON Schema)'), h('pre', { tabindex: 0 }, JSON.stringify(schema, null, 2)))),
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
 * The items of a field that can be put in order, with their names.
 * @param {unknown} value
 * @returns {[id: string, name: string][]}
 */
function items(value) {
    return (Array.isArray(value) ? value : []).map((item) => (typeof item === 'object' && item !== null
        ? [item.id, asText(item.title ?? item.name ?? item.label ?? item.text ?? item.id)] : [item, item]));
}

/**
 * Items in an order, moved by buttons. There is no answer before somebody moved one, or said that the order is right.
 * @param {[id: string, name: string][]} all
 * @param {() => void} onChange
 * @returns {Control}
 */
function ranking(all, onChange) {
    let order = all.map(([id]) => id);
    let isAnswered = false;
    const names = new Map(all);
    const list = h('ol', { class: 'ranked' });
    const state = h('p', { class: 'hint', role: 'status' });
    /** @param {number} at @param {-1 | 1} by @param {string} word */
    const mover = (at, by, word) => h('button', {
        type: 'button', class: 'small', 'aria-label': `Move ${names.get(order[at])} ${word}`, 'aria-disabled': String(!(at + by in order)),
        onclick: () => {
            if (at + by in order) {
                [order[at], order[at + by]] = [order[at + by], order[at]];
                answer();
                /** @type {HTMLElement} */ (list.children[at + by].querySelectorAll('button')[by < 0 ? 0 : 1]).focus();
            }
        },
    }, by < 0 ? '↑' : '↓');
    const show = () => {
        fill(list, order.map((id, at) => h('li', {}, h('div', {}, h('span', {}, names.get(id) ?? id), mover(at, -1, 'up'), mover(at, 1, 'down')))));
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
function taxonomy({ tree, multiple }, onChange) {
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
function spans(question, value, onChange) {
    /** @type {{ start: number, end: number, label: string }[] | undefined} */
    let marked;
    const characters = [...value];
    const starts = characterStarts(characters);
    const area = h('textarea', { readonly: true, rows: 8, 'aria-label': 'Text to select in' });
    area.value = value;
    const list = h('ul');
    const change = (/** @type {typeof marked} */ next) => {
        marked = next?.toSorted((a, b) => a.start - b.start || a.end - b.end);
        fill(list, marked?.length === 0 && h('li', {}, 'There are none in this text.'), (marked ?? []).map((span) => h('li', {}, spanText(question, characters, span), ' ',
            h('button', { type: 'button', class: 'small', 'aria-label': `Remove ${spanText(question, characters, span)}`,
                onclick: () => change(marked?.filter((one) => one !== span)) }, '×'))));
        onChange();
    };
    const add = (/** @type {string} */ label) => {
        const span = { start: starts[area.selectionStart], end: starts[area.selectionEnd], label };
        if (span.start < span.end) {
            change([...(marked ?? []), span]);
        }
    };
    const labels = question.labels.map(({ value: label, label: name }, at) => h('button', { type: 'button', class: 'small', onclick: () => add(label) },
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
function spanText({ labels }, characters, { start, end, label }) {
    const name = labels.find(({ value }) => value === label)?.label;
    return `${inLanguage(name) || label}: “${characters.slice(start, end).join('')}”`;
}

/**
 * A list, or no answer if it is empty.
 * @template T
 * @param {T[]} list
 */
function orNothing(list) {
    return list.length > 0 ? list : undefined;
}
