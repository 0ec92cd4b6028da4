// Training data and examples of what was reviewed, as a file.

import { api, save } from './api.js';
import { actionButton, h, labelled, notify, select } from './dom.js';

const FORMATS = /** @type {[string, string][]} */ ([
    ['openai_chat', 'OpenAI chat'], ['openai_dpo', 'OpenAI preferences'], ['trl_prompt_completion', 'TRL prompt and completion'],
    ['trl_messages', 'TRL messages'], ['trl_preference', 'TRL preferences'], ['trl_kto', 'TRL KTO'], ['alpaca', 'Alpaca'],
    ['sharegpt', 'ShareGPT'], ['axolotl', 'Axolotl'], ['distilabel', 'distilabel'], ['argilla', 'Argilla'],
    ['icl_json', 'Examples as JSON'], ['icl_messages', 'Examples as messages'], ['icl_text', 'Examples as text']]);

/** @param {import('./types').Schema} schema */
export function exportSection(schema) {
    const format = select(FORMATS, 'trl_messages');
    const agreement = h('input', { type: 'number', min: 0, max: 1, step: 0.05 });
    const gold = h('input', { type: 'checkbox', id: 'gold-only', checked: true });
    return h('section', { class: 'card' }, h('h2', {}, 'Export'),
        h('div', { class: 'row' },
            labelled('Format', format),
            labelled('Least agreement', agreement, 'From 0 to 1; empty for any.'),
            h('div', { class: 'control' }, h('label', { for: 'gold-only' }, gold, ' Gold records only'))),
        actionButton('Export', async () => {
            const response = await api.exportRows({
                schema: schema.id,
                format: format.value,
                gold_only: gold.checked,
                ...(agreement.value && { min_agreement: agreement.valueAsNumber }),
            });
            await save(response, `${schema.id}_${format.value}.${format.value === 'icl_text' ? 'txt' : 'jsonl'}`);
            notify('The file is saved.');
        }, { class: 'main' }));
}
