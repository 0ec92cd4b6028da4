// How a question is answered: a control for each kind, and an answer in words.

import { ranking, spanText, spans, taxonomy } from './arrangements.js';
import { checkBoxes, date, dropDown, json, number, radios, text, texts } from './controls.js';
import { asText, inLanguage } from './fields.js';

/** @typedef {import('./types').Question} Question */
/** @typedef {import('./controls.js').Control} Control */
/** @typedef {Record<string, any>} Fields */

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
            const options = optionsOf(question, fieldTitles) ?? [];
            const answers = Array.isArray(answer) && question.type !== 'structured' ? answer : [answer];
            return answers.map((one) => options.find(([value]) => value === one)?.[1] ?? asText(one)).join(', ');
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
 * The items of a field that can be put in order, with their names.
 * @param {unknown} value
 * @returns {[id: string, name: string][]}
 */
function items(value) {
    return (Array.isArray(value) ? value : []).map((item) => (typeof item === 'object' && item !== null
        ? [item.id, asText(item.title ?? item.name ?? item.label ?? item.text ?? item.id)] : [item, item]));
}
