// What a person does with the page, from a file to training data, in a real browser against the real server and model.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { WINDOWS, call, checkAccessibility, checkFits, launch, open, screenshot } from './browser.mjs';

const SCHEMA = 'email_evaluation';
const folder = mkdtempSync(path.join(tmpdir(), 'vllm_batch_web_'));
let browser;
let model;

before(async () => {
    browser = await launch();
    model = (await call('GET', '/v1/models')).data[0].id;
});
after(() => browser?.close());

/** A batch file of short requests; with `extra`, lines after them. */
function batchFile(name, requests, extra = []) {
    const line = (at) => JSON.stringify({
        custom_id: `row-${at}`, method: 'POST', url: '/v1/chat/completions',
        body: { model, max_tokens: 8, temperature: 0, messages: [{ role: 'user', content: `Name the number ${at}.` }] },
    });
    const file = path.join(folder, name);
    writeFileSync(file, [...Array.from({ length: requests }, (_, at) => line(at)), ...extra].join('\n'));
    return file;
}

/** Uploads a file by keys alone, and waits for the view of its batch. */
async function submit(page, file) {
    await page.goto('/page/#/new');
    await page.getByLabel('Drop a batch file').setInputFiles(file);
    await page.getByText(`for ${model} at /v1/chat/completions`).waitFor();
    await page.getByRole('button', { name: 'Upload and start' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: /^Batch batch_/ }).waitFor();
}

test('a file is submitted, watched, and its answers are downloaded', async () => {
    const { page, close } = await open(browser);
    await submit(page, batchFile('good.jsonl', 6));
    await screenshot(page, 'batch-running');
    await page.locator('.status.completed').waitFor({ timeout: 120_000 });
    assert.equal(await page.locator('.tiles div', { hasText: 'Answered' }).locator('dd').textContent(), '6');
    await page.getByText('6 of 6').waitFor();

    const downloading = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download answers' }).click();
    const rows = readFileSync(await (await downloading).path(), 'utf8').trim().split('\n').map((row) => JSON.parse(row));
    assert.deepEqual(rows.map(({ custom_id: id }) => id).sort(), Array.from({ length: 6 }, (_, at) => `row-${at}`));
    assert(rows.every(({ response }) => response.status_code === 200));

    await page.getByRole('link', { name: 'Queue' }).click();
    await page.getByRole('region', { name: 'Newest first' }).getByText('completed').first().waitFor();
    await close();
});

test('a file that is refused says why, line by line', async () => {
    const { page, close } = await open(browser);
    await submit(page, batchFile('bad.jsonl', 1, ['not json']));
    await page.locator('h1 .status.failed').waitFor({ timeout: 60_000 });
    const row = page.getByRole('row', { name: /invalid_json_line/ });
    assert.equal(await row.getByRole('cell').first().textContent(), '2');
    await screenshot(page, 'batch-refused');
    await close();
});

test('rows that failed are shown and tried again', async () => {
    const { page, close } = await open(browser);
    const long = JSON.stringify({ custom_id: 'too-long', method: 'POST', url: '/v1/chat/completions',
        body: { model, max_tokens: 1, messages: [{ role: 'user', content: 'word '.repeat(20_000) }] } });
    await submit(page, batchFile('partly.jsonl', 1, [long]));
    await page.locator('h1 .status.completed').waitFor({ timeout: 120_000 });
    await page.getByRole('row', { name: /too-long/ }).waitFor();
    await screenshot(page, 'batch-failed-rows');
    const before = page.url();
    await page.getByRole('button', { name: 'Retry failed rows' }).click();
    await page.waitForURL((url) => url.href !== before);
    await page.getByText('retry_of').waitFor();
    await close();
});

test('a file can be dropped', async () => {
    const { page, close } = await open(browser, '#/new');
    const data = await page.evaluateHandle((text) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([text], 'dropped.jsonl'));
        return transfer;
    }, readFileSync(batchFile('dropped.jsonl', 2), 'utf8'));
    await page.dispatchEvent('.drop', 'drop', { dataTransfer: data });
    await page.getByText('dropped.jsonl').waitFor();
    assert.equal(await page.getByLabel('Drop a batch file').evaluate((input) => input.files.length), 1);
    await close();
});

test('three records are reviewed by keys alone, one becomes gold, and is exported', async () => {
    await call('POST', '/v1/curation/tasks', { schema: SCHEMA, records: Array.from({ length: 4 }, (_, at) => ({
        id: `mail-${at}`,
        fields: { from: 'ann@example.org', to: 'bob@example.org', subject: `Invoice ${at}`, email_body: 'Dear Bob,\n\nthe invoice is **wrong**.\n\nAnn' },
        suggestions: [{ model: 'demo', answers: { tone: 'professional' }, scores: { tone: 0.25 * at } }],
    })) });
    const { page, close } = await open(browser, `#/review/${SCHEMA}`);
    await page.getByLabel('Your name').fill('ann');
    await page.getByLabel('Your name').press('Tab');
    await page.getByRole('button', { name: 'Start' }).focus();
    await page.keyboard.press('Enter');
    const seen = [];
    for (let at = 0; at < 3; at += 1) {
        await page.waitForURL((url) => url.hash.split('/').length === 4 && !seen.includes(url.href));
        seen.push(page.url());
        await page.locator('.question').first().waitFor();
        if (at === 0) {
            assert.match(await page.locator('h1').textContent(), /mail-0/, 'the least sure comes first');
            await page.keyboard.press('?');
            await page.getByRole('dialog', { name: 'Keys' }).waitFor();
            await page.keyboard.press('Escape');
            await screenshot(page, 'review');
            // What is required and missing is said beside its question, and has the focus.
            await page.keyboard.press('Enter');
            await page.locator('.wrong:not(:empty)').first().waitFor();
            assert(await page.locator('.question:focus .wrong').textContent());
            await screenshot(page, 'review-wrong');
        }
        await answerAll(page);
        if (at === 0) {
            await page.keyboard.press('g');
            await page.getByRole('button', { name: 'Gold', pressed: true }).waitFor();
        }
        await page.keyboard.press('Enter');
    }
    await page.waitForURL((url) => !seen.includes(url.href));
    await page.goto(`/page/#/review/${SCHEMA}`);
    await page.getByLabel('Status').selectOption('gold');
    await page.getByRole('link', { name: 'mail-0' }).waitFor();

    await page.getByRole('button', { name: 'Compute' }).click();
    await page.getByRole('region', { name: /demo and people/ }).first().waitFor();
    await screenshot(page, 'review-list');
    const downloading = page.waitForEvent('download');
    await page.getByLabel('Format').selectOption('trl_messages');
    await page.getByRole('button', { name: 'Export' }).click();
    const rows = readFileSync(await (await downloading).path(), 'utf8').trim().split('\n').map((row) => JSON.parse(row));
    assert.deepEqual(rows.map(({ record_id: id }) => id), ['mail-0']);
    assert.match(rows[0].messages.at(-1).content, /"tone":\s*"professional"/);
    await close();
});

/** Takes what is suggested, and chooses the first option of each other question, with the keyboard. */
async function answerAll(page) {
    await page.keyboard.press('a');
    const questions = page.locator('.question:visible');
    // To the first one, however far it is.
    for (let at = 0; at < await questions.count(); at += 1) {
        await page.keyboard.press('k');
    }
    for (let at = 0; at < await questions.count(); at += 1) {
        const question = questions.nth(at);
        assert(await question.evaluate((element) => element.classList.contains('current')), `question ${at} is the current one`);
        if (await question.locator('input[type=radio], input[type=checkbox]').count()) {
            if (!(await question.locator(':checked').count())) {
                await page.keyboard.press('1');
            }
        } else if (!(await question.getByText('(optional)').count())) {
            await page.keyboard.press('i');
            await page.keyboard.type('j 1 text');
            await page.keyboard.press('Escape');
        }
        await page.keyboard.press('j');
    }
}

test('every type of question is answered, and every display is shown', async () => {
    const fields = {
        subject: 'Money', words: 12, body: 'Hello 👋 Bob,\r\nAnn from Rome wants her money back.', answer: '## Yes\n\n**Soon**, see [terms](javascript:alert(1)).\n\n- <img src=x>',
        skills: ['Rust', 'Python', 'SQL'], jobs: [{ title: 'Engineer', start: '2020', end: '2022' }], prices: [{ item: 'tea', price: 2 }],
        talk: [{ role: 'user', content: 'Hi' }], page: 'https://example.org/', terms: 'All sales are final.', secret: 'not to be seen',
    };
    const [id] = (await call('POST', '/v1/curation/tasks', { schema: 'all_kinds', records: [{ id: 'all', fields }] })).created;
    const { page, close } = await open(browser, '#/review/all_kinds');
    await page.getByLabel('Your name').fill('bob');
    await page.getByLabel('Your name').press('Tab');
    await page.getByRole('link', { name: 'all', exact: true }).click();
    const record = page.getByRole('region', { name: 'Record' });
    await record.locator('.markdown strong', { hasText: 'Soon' }).waitFor();
    assert.equal(await record.locator('img, a[href^="javascript"]').count(), 0);
    assert.equal(await page.getByText('not to be seen').count(), 0);
    const question = (title) => page.getByRole('group', { name: title });

    assert(await question('Why is it rude?').isHidden());
    await question('Tone').getByLabel('Rude').check();
    await question('Why is it rude?').getByRole('textbox').fill('It shouts.');
    await question('Topics').getByLabel('Bug').check();
    await question('Topics').getByLabel('Something else').check();
    await question('Clarity').getByLabel('4').check();
    await question('Urgent?').getByLabel('Yes').check();
    await question('Amount').getByRole('spinbutton').fill('7.5');
    for (const tag of ['one', 'two']) {
        await question('Tags').getByRole('button', { name: 'Add' }).click();
        await question('Tags').getByRole('textbox').last().fill(tag);
    }
    await question('Due').locator('input').fill('2026-01-31');
    await question('Facts').getByRole('textbox').fill('{"people": ');
    await question('Which is better?').getByLabel('Answer').check();
    await question('Best skills first').getByRole('button', { name: 'Move SQL up' }).click();
    await question('Best skills first').getByRole('button', { name: 'Move SQL up' }).click();
    await question('Where it belongs').getByLabel('Fruit').check();
    await question('Names').getByRole('textbox').evaluate((area) => {
        const start = area.value.indexOf('Rome');
        area.setSelectionRange(start, start + 'Rome'.length);
    });
    await question('Names').getByRole('button', { name: 'City' }).click();
    await screenshot(page, 'review-all-kinds');

    // JSON that breaks off is told by the page, a value that the schema does not allow by the server.
    await page.getByRole('button', { name: 'Save and next' }).click();
    await question('Facts').getByText('This is not JSON').waitFor();
    await question('Facts').getByRole('textbox').fill('{"people": "two"}');
    await page.getByRole('button', { name: 'Save and next' }).click();
    await question('Facts').locator('.wrong', { hasText: 'people' }).waitFor();
    await question('Facts').getByRole('textbox').fill('{"people": 2}');
    await page.getByRole('button', { name: 'Save and next' }).click();
    await page.getByText('You have seen all tasks.').waitFor();

    const { responses } = await call('GET', `/v1/curation/tasks/${id}`);
    assert.deepEqual(responses.map(({ agent, status, prefilled, answers }) => ({ name: agent.name, status, prefilled, answers })), [{
        name: 'bob', status: 'submitted', prefilled: false,
        answers: {
            tone: 'rude', why: 'It shouts.', topics: ['bug', 'other'], clarity: 4, urgent: true, amount: 7.5, tags: ['one', 'two'], due: '2026-01-31',
            facts: { people: 2 }, better: 'right', order: ['SQL', 'Rust', 'Python'], place: [['food', 'fruit']], names: [{ start: 23, end: 27, label: 'city' }],
        },
    }]);
    // What was said is there again, and what is not asked any more goes.
    await page.goto(`/page/#/review/all_kinds/${id}`);
    await question('Names').getByText('City: “Rome”').waitFor();
    assert.equal(await question('Facts').getByRole('textbox').inputValue(), '{\n  "people": 2\n}');
    await question('Tone').getByLabel('Friendly').check();
    // The message of the first time may still be there.
    const saving = page.waitForResponse((response) => response.request().method() === 'POST' && response.url().endsWith('/annotations'));
    await page.getByRole('button', { name: 'Save and next' }).click();
    assert.equal((await saving).status(), 200);
    const { responses: [again] } = await call('GET', `/v1/curation/tasks/${id}`);
    assert.deepEqual([again.answers.tone, again.answers.why], ['friendly', undefined]);
    await close();
});

test('every view is accessible and fits, in light, dark and narrow windows', async () => {
    const { data: [batch] } = await call('GET', '/v1/batches?limit=1');
    const { data: [task] } = await call('GET', `/v1/curation/tasks?schema=${SCHEMA}`);
    const { data: [kinds] } = await call('GET', '/v1/curation/tasks?schema=all_kinds');
    const views = { queue: '#/queue', new: '#/new', batch: `#/batches/${batch.id}`, schemas: '#/review', list: `#/review/${SCHEMA}`, task: `#/review/${SCHEMA}/${task.id}`,
        kinds: `#/review/all_kinds/${kinds.id}` };
    for (const [window, options] of Object.entries(WINDOWS)) {
        for (const [name, hash] of Object.entries(views)) {
            const { page, close } = await open(browser, hash, options);
            await page.waitForLoadState('networkidle').catch(() => {});
            await checkAccessibility(page, `${name} ${window}`);
            await checkFits(page, `${name} ${window}`);
            await screenshot(page, `${name}-${window}`);
            await close();
        }
    }
});

test('the way through the page is that of the keyboard', async () => {
    const { page, close } = await open(browser);
    await page.keyboard.press('Tab');
    assert.equal(await page.locator(':focus').textContent(), 'Skip to the content');
    await page.keyboard.press('Enter');
    assert.equal(await page.locator(':focus').getAttribute('id'), 'main');
    await page.getByRole('link', { name: 'Review' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Review' }).waitFor();
    await page.locator('h1:focus').waitFor();
    await close();
});

test('what is not there is said in the words of the server', async () => {
    const { page, close } = await open(browser);
    await page.goto('/page/#/batches/batch_none');
    const alert = page.getByRole('alert');
    await alert.getByText(/batch_none/).waitFor();
    await close();
});
