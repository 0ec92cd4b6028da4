// How much people and models agree, question by question.

import { api } from './api.js';
import { actionButton, count, decimal, fill, h, percent, table } from './dom.js';
import { inLanguage } from './fields.js';

/** @typedef {import('./types').Estimate} Estimate */

const SHOWN = { all: '', blind: ', who did not see suggestions', prefilled: ', who saw suggestions' };

/**
 * The section that computes it when it is asked for.
 * @param {import('./types').Schema} schema
 */
export function agreementSection(schema) {
    const place = h('div', { role: 'status' });
    return h('section', { class: 'card' }, h('h2', {}, 'Agreement'),
        h('p', { class: 'hint' }, 'Alpha is Krippendorff’s, kappa is Cohen’s: 1 is complete agreement, 0 what comes by chance. ',
            'In brackets: the interval of 95 %.'),
        actionButton('Compute', async () => {
            const { groups } = await api.agreement(schema.id);
            fill(place, groups.length === 0 ? h('p', {}, 'No record has two answers that can be compared yet.')
                : groups.map((group) => groupTable(schema, group)));
        }), place);
}

/**
 * @param {import('./types').Schema} schema
 * @param {import('./types').Agreement['groups'][number]} group
 */
function groupTable(schema, { compared, shown, overall, questions }) {
    const who = typeof compared === 'object' ? `${compared.model_human.model} and people` : compared === 'models' ? 'Models' : 'People';
    const titles = new Map(schema.questions.map(({ id, title }) => [id, inLanguage(title)]));
    const total = overall === null ? '' : `: ${percent(overall)} alike`;
    return table(`${who}${SHOWN[shown]}${total}`, ['Question', 'Compared', 'Alike', 'Alpha', 'Kappa'],
        questions.map((one) => [titles.get(one.question) ?? one.question, count(one.num_units),
            inWords(one.similarity, percent), inWords(one.alpha, decimal), inWords(one.kappa, decimal)]));
}

/**
 * @param {Estimate} estimate
 * @param {(value: number) => string} format
 */
function inWords(estimate, format) {
    if ('undefined' in estimate) {
        return h('span', { class: 'hint' }, estimate.undefined.replaceAll('_', ' '));
    }
    const { value, lower, upper } = estimate;
    return lower === undefined || upper === undefined ? format(value) : `${format(value)} (${format(lower)} to ${format(upper)})`;
}
