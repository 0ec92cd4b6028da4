// A new batch: a file by drag and drop or by choice, what becomes of it, and how far its upload is.

import { api, upload } from './api.js';
import { announce, fill, h, labelled, notifyError, percent, select, size, whileBusy } from './dom.js';
import { inLanguage } from './fields.js';

const ENDPOINTS = ['/v1/chat/completions', '/v1/completions', '/v1/embeddings', '/v1/score'];
const WINDOWS = /** @type {[string, string][]} */ ([['1h', '1 hour'], ['6h', '6 hours'], ['24h', '24 hours'], ['7d', '7 days']]);
/** How much of the file is read to see what its requests are. */
const PEEK_BYTES = 1 << 20;

/** @type {import('./app.js').View} */
export async function showNewBatch(main, _params, signal) {
    const input = h('input', { type: 'file', accept: '.jsonl,.ndjson,application/jsonl', id: 'file', 'aria-describedby': 'file-facts' });
    const facts = h('p', { id: 'file-facts', class: 'hint', role: 'status' }, 'One request a line, as JSON.');
    const drop = h('div', { class: 'drop' }, h('label', { for: 'file' }, 'Drop a batch file here, or choose one'), input, facts);
    const endpoint = select(ENDPOINTS.map((url) => [url, url]));
    const completionWindow = select(WINDOWS, '24h');
    const priority = h('input', { type: 'number', value: 0, step: 1 });
    const schema = select(await schemas(signal));
    const bar = h('progress', { max: 1, value: 0, 'aria-label': 'Upload', hidden: true });
    const button = h('button', { type: 'submit', class: 'main' }, 'Upload and start');
    const form = h('form', { class: 'card' }, drop,
        h('div', { class: 'row' },
            labelled('Endpoint', endpoint, 'That of all its requests.'),
            labelled('To be done within', completionWindow),
            labelled('Priority', priority, 'Larger runs first.'),
            labelled('Review', schema, 'Answers become tasks of this schema.')),
        bar, h('div', { class: 'actions' }, button));
    fill(main, h('h1', {}, 'New batch'), form);

    /** @param {File | undefined} file */
    const choose = async (file) => {
        if (file) {
            const first = await firstRequest(file);
            facts.textContent = `${file.name}, ${size(file.size)}${first.note}`;
            if (first.url && ENDPOINTS.includes(first.url)) {
                endpoint.value = first.url;
            }
        }
    };
    input.addEventListener('change', () => choose(input.files?.[0]));
    acceptDrops(drop, (files) => {
        input.files = files;
        choose(files[0]);
    });
    form.addEventListener('submit', (event) => {
        event.preventDefault();
        const file = input.files?.[0];
        if (!file) {
            notifyError('Choose a file first.');
            input.focus();
            return;
        }
        whileBusy(button, async () => {
            bar.hidden = false;
            try {
                const { id } = await upload(file, (share) => showUpload(bar, share), signal);
                const batch = await api.createBatch({
                    input_file_id: id,
                    endpoint: endpoint.value,
                    completion_window: completionWindow.value,
                    priority: Number(priority.value),
                    metadata: { filename: file.name.slice(0, 512), ...(schema.value && { curation_schema: schema.value }) },
                });
                location.hash = `#/batches/${encodeURIComponent(batch.id)}`;
            } finally {
                bar.hidden = true;
            }
        });
    });
}

/**
 * @param {HTMLProgressElement} bar
 * @param {number} share
 */
function showUpload(bar, share) {
    // Said in steps of a tenth, or it would be said without end.
    if (Math.floor(share * 10) > Math.floor(bar.value * 10)) {
        announce(`${percent(share)} uploaded`);
    }
    bar.value = share;
}

/**
 * Schemas that answers can be reviewed by; none where the server has no review.
 * @param {AbortSignal} signal
 * @returns {Promise<[string, string][]>}
 */
async function schemas(signal) {
    const { data } = await api.schemas(signal).catch(() => ({ data: [] }));
    return [['', 'None'], ...data.map(({ id, version, name }) => /** @type {[string, string]} */ ([`${id}@${version}`, inLanguage(name)]))];
}

/**
 * What the first line of a file says, as far as it can be read. The server checks all of them.
 * @param {File} file
 * @returns {Promise<{ url?: string, note: string }>}
 */
async function firstRequest(file) {
    const [line] = (await file.slice(0, PEEK_BYTES).text()).split('\n');
    try {
        const { url, body } = JSON.parse(line);
        return { url, note: `, for ${body?.model ?? 'no model'} at ${url}` };
    } catch {
        return { note: file.size > PEEK_BYTES ? '' : '. Its first line is not JSON.' };
    }
}

/**
 * @param {HTMLElement} zone
 * @param {(files: FileList) => void} take
 */
function acceptDrops(zone, take) {
    /** @param {string} type @param {boolean} isOver */
    const on = (type, isOver) => zone.addEventListener(type, (event) => {
        event.preventDefault();
        zone.classList.toggle('over', isOver);
    });
    on('dragenter', true);
    on('dragover', true);
    on('dragleave', false);
    on('drop', false);
    zone.addEventListener('drop', ({ dataTransfer }) => dataTransfer?.files.length && take(dataTransfer.files));
}
