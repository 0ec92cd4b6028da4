// What a record says, shown as its schema wants it: by the type of each field and by its display.

import { h, table } from './dom.js';
import { link, markdown } from './markdown.js';

/** @typedef {import('./dom.js').Child} Child */
/** @typedef {import('./types').Field} Field */

/** Parts of an event that say when it was. */
const TIMES = /^(date|when|time|year|from|to|start|end|since|until|(start|end)_(date|year|time)|started_at|ended_at)$/;

/**
 * A text in a language that the reader knows, else in English, else in any.
 * @param {import('./types').Localized | null | undefined} text
 * @returns {string}
 */
export function inLanguage(text) {
    if (typeof text !== 'object' || text === null) {
        return text ?? '';
    }
    const wanted = [...navigator.languages, 'en'].flatMap((language) => [language, language.split('-')[0]]);
    const found = wanted.find((language) => language in text);
    return found ? text[found] : Object.values(text)[0] ?? '';
}

/**
 * A value in a line of text.
 * @param {unknown} value
 * @returns {string}
 */
export function asText(value) {
    if (value === null || value === undefined) {
        return '';
    }
    if (typeof value === 'boolean') {
        return value ? 'yes' : 'no';
    }
    return typeof value === 'object' ? JSON.stringify(value, null, 1) : String(value);
}

/**
 * The fields of a record: those of the head as a list of facts, the others below each other. Fields without a value and hidden ones
 * are left out.
 * @param {Field[]} fields
 * @param {Record<string, unknown>} values
 * @returns {Child[]}
 */
export function sources(fields, values) {
    const shown = fields.filter(({ display }) => display !== 'hidden').map((field) => ({ field, value: values[field.id] ?? field.default }))
        .filter(({ value }) => value !== null && value !== undefined && value !== '');
    const facts = shown.filter(({ field }) => field.display === 'header');
    return [
        facts.length > 0 && h('dl', { class: 'facts' },
            facts.flatMap(({ field, value }) => [h('dt', {}, inLanguage(field.title)), h('dd', {}, valueOf(field, value))])),
        ...shown.filter(({ field }) => field.display !== 'header').map(({ field, value }) => section(field, value)),
    ];
}

/**
 * @param {Field} field
 * @param {unknown} value
 */
function section(field, value) {
    const title = inLanguage(field.title);
    return field.display === 'collapsible'
        ? h('details', { class: 'field' }, h('summary', {}, title), valueOf(field, value))
        : h('section', { class: 'field' }, h('h2', {}, title), valueOf(field, value));
}

/**
 * @param {Field} field
 * @param {unknown} value
 * @returns {Child}
 */
function valueOf({ type, format, display, title }, value) {
    if (display === 'link' || type === 'file') {
        return link(asText(value)) ?? asText(value);
    }
    if (type === 'chat' && Array.isArray(value)) {
        return h('div', {}, value.map(({ role, content }) =>
            h('div', { class: 'entry' }, h('strong', {}, role), h('div', { class: 'text' }, asText(content)))));
    }
    if (typeof value === 'string') {
        return display === 'markdown' || format === 'markdown' ? markdown(value)
            : display === 'header' ? value : h('div', { class: 'text' }, value);
    }
    if (display === 'timeline' && Array.isArray(value)) {
        return h('ol', { class: 'timeline' }, value.map((event) => h('li', {}, eventOf(event))));
    }
    if (display === 'table' && Array.isArray(value)) {
        return tableOf(inLanguage(title), value);
    }
    return structured(value);
}

/**
 * Any JSON: objects as facts, lists as lists.
 * @param {unknown} value
 * @returns {Child}
 */
function structured(value) {
    if (Array.isArray(value)) {
        return value.every((item) => typeof item !== 'object')
            ? h('ul', {}, value.map((item) => h('li', {}, asText(item))))
            : h('div', {}, value.map((item) => h('div', { class: 'entry' }, structured(item))));
    }
    if (typeof value === 'object' && value !== null) {
        const parts = Object.entries(value).filter(([, part]) => part !== null && part !== '');
        return h('dl', { class: 'facts' }, parts.flatMap(([name, part]) => [h('dt', {}, inWords(name)), h('dd', {}, structured(part))]));
    }
    return asText(value);
}

/**
 * An event: when it was, and what.
 * @param {unknown} event
 * @returns {Child[]}
 */
function eventOf(event) {
    if (typeof event !== 'object' || event === null || Array.isArray(event)) {
        return [structured(event)];
    }
    const parts = Object.entries(event).filter(([, part]) => part !== null && part !== '');
    const times = parts.filter(([name]) => TIMES.test(name));
    return [
        times.length > 0 && h('div', { class: 'when' }, times.map(([, time]) => asText(time)).join(' – ')),
        structured(Object.fromEntries(parts.filter(([name]) => !TIMES.test(name)))),
    ];
}

/**
 * @param {string} title
 * @param {unknown[]} rows
 */
function tableOf(title, rows) {
    const objects = rows.map((row) => (typeof row === 'object' && row !== null ? row : { value: row }));
    const names = [...new Set(objects.flatMap((row) => Object.keys(row)))];
    return table(title, names.map(inWords), objects.map((row) => names.map((name) => structured(/** @type {any} */ (row)[name]))));
}

/** @param {string} name */
const inWords = (name) => name.replaceAll('_', ' ');
