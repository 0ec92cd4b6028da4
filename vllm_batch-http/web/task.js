// One record under review: what it says, what models suggest, and the answers, by mouse or by keys alone.

import { api, ApiError } from './api.js';
import { actionButton, announce, fill, h, notify, percent, uniqueId } from './dom.js';
import { inLanguage, sources } from './fields.js';
import { answerText, controlFor } from './questions.js';
import { statusBadge } from './queue.js';
import { openNext, reviewer, reviewerControls } from './review.js';
import { visibleQuestions } from './visible.js';

/** @typedef {import('./types').CurationTask} CurationTask */
/** @typedef {import('./types').Schema} Schema */
/** @typedef {import('./types').Question} Question */

/** What keys do. `1` stands for all digits. */
const KEYS = /** @type {[string, string][]} */ ([
    ['1 … 9', 'Choose an option of the question'], ['j', 'Next question'], ['k', 'Question before'], ['i', 'Write into the question'],
    ['Esc', 'Leave a text'], ['a', 'Take what is suggested, where there is no answer'], ['Enter', 'Save, and open the next task'],
    ['Ctrl Enter', 'The same, from within a text'], ['g', 'Gold or not'], ['s', 'Skip this task'], ['?', 'This list']]);

/** @type {import('./app.js').View} */
export async function showTask(main, [, taskId], signal) {
    const task = await api.task(taskId, signal);
    // The version that the task has: answers are checked by it.
    const schema = await api.schema(task.schema, signal);
    new Review(main, schema, task).listen(signal);
}

/** The questions about one record, and what can be done with them. */
class Review {
    /**
     * @param {HTMLElement} main
     * @param {Schema} schema
     * @param {CurationTask} task
     */
    constructor(main, schema, task) {
        this.schema = schema;
        this.task = task;
        this.started = performance.now();
        /** The question that keys are about. */
        this.current = /** @type {Element | undefined} */ (undefined);
        this.fieldTitles = Object.fromEntries(schema.fields.map(({ id, title }) => [id, inLanguage(title)]));
        /** Whether a model's answers were seen while answering. */
        this.sawSuggestions = false;
        this.parts = schema.questions.map((question) => this.part(question));
        const own = task.responses.find(({ agent }) => agent.name === reviewer.get('name'));
        this.parts.forEach(({ question, control }) => control.write(own?.answers[question.id]));
        this.status = h('span');
        this.gold = actionButton('★ Gold', () => this.toggleGold());
        this.save = actionButton('Save and next', () => this.answer('submitted'), { class: 'main' });
        this.skip = actionButton('Skip', () => this.answer('discarded'));
        this.help = helpDialog();
        fill(main, ...this.layout());
        this.showState();
        this.showVisible();
    }

    /** @returns {import('./dom.js').Child[]} */
    layout() {
        const { schema, task } = this;
        const list = `#/review/${encodeURIComponent(schema.id)}`;
        const settings = h('details', { class: 'card', open: !reviewer.get('name') }, h('summary', {}, 'How you review'),
            reviewerControls(() => this.showSuggestions()));
        const guidelines = schema.guidelines && schema.rendering.show_help
            && h('details', { class: 'card' }, h('summary', {}, 'How to answer'), h('p', {}, inLanguage(schema.guidelines)));
        const record = schema.rendering.show_fields && h('section', { class: 'card sources', 'aria-label': 'Record', tabindex: 0 },
            h('div', { class: schema.rendering.layout === 'grid' ? 'grid' : '' }, sources(schema.fields, task.fields)));
        const answers = h('section', { 'aria-label': 'Questions' }, this.parts.map(({ element }) => element),
            h('div', { class: 'foot actions' }, this.save, this.skip, this.gold,
                h('button', { type: 'button', onclick: () => this.help.showModal() }, 'Keys ', h('kbd', { 'aria-hidden': 'true' }, '?'))));
        return [
            h('div', { class: 'head' }, h('h1', {}, task.record_id, ' ', this.status),
                h('a', { class: 'button', href: list }, `All of ${inLanguage(schema.name)}`)),
            settings, guidelines,
            h('div', { class: `columns ${schema.rendering.layout === 'two-columns' && record ? 'two' : ''}` }, record, answers),
            this.help,
        ];
    }

    /**
     * A question with its suggestions and its control.
     * @param {Question} question
     */
    part(question) {
        const id = uniqueId('question');
        const control = controlFor(question, this.task.fields, this.fieldTitles, `${id}-title`, () => this.showVisible());
        const wrong = h('p', { class: 'wrong', id: `${id}-wrong` });
        const suggestions = h('div');
        const help = question.help && this.schema.rendering.show_help ? inLanguage(question.help) : '';
        const element = h('fieldset', { class: 'question', tabindex: -1, 'aria-describedby': `${id}-wrong` },
            h('legend', { id: `${id}-title` }, inLanguage(question.title), !question.required && h('span', { class: 'faint' }, ' (optional)')),
            help && h('p', { class: 'hint' }, help), suggestions, control.element, wrong);
        element.addEventListener('focusin', () => this.setCurrent(element));
        element.addEventListener('input', () => this.showVisible());
        return { question, control, element, wrong, suggestions };
    }

    /** @param {AbortSignal} signal */
    listen(signal) {
        document.addEventListener('keydown', (event) => this.onKey(event), { signal });
        signal.addEventListener('abort', () => this.help.close());
        this.setCurrent(this.asked()[0]?.element);
    }

    /** What is asked, by the answers that there are. */
    asked() {
        return this.parts.filter(({ element }) => !element.hidden);
    }

    /**
     * The answer that a question has now, as far as it can be read.
     * @param {Review['parts'][number]} part
     */
    soFar({ control }) {
        try {
            return control.read();
        } catch {
            return undefined;
        }
    }

    /** Shows the questions that are asked, and hides the others. */
    showVisible() {
        const answers = Object.fromEntries(this.parts.map((part) => [part.question.id, this.soFar(part)]));
        const visible = new Set(visibleQuestions(this.schema.questions, answers, this.task.fields));
        this.parts.forEach(({ question, element }) => (element.hidden = !visible.has(question)));
    }

    /** Shows what the server says about the record. */
    showState() {
        const { status, gold } = this.task;
        fill(this.status, statusBadge(status));
        this.gold.setAttribute('aria-pressed', String(this.isMarked()));
        this.gold.title = gold.reasons.join('; ');
        this.gold.hidden = !this.schema.gold.manual;
        this.showSuggestions();
    }

    /** Whether somebody said that the record is gold, even if it cannot be yet; without anyone's word, whether it is. */
    isMarked() {
        const { manual, is_gold: isGold } = this.task.gold;
        return manual ?? isGold;
    }

    /** Whether the schema and the reviewer want what models say to be seen. */
    showsSuggestions() {
        return this.schema.rendering.show_suggestions && reviewer.get('blind') !== 'on';
    }

    /** Shows what models say. */
    showSuggestions() {
        const isShown = this.showsSuggestions();
        for (const part of this.parts) {
            fill(part.suggestions, isShown && this.suggestionsFor(part.question.id).map((suggestion) => this.suggestion(part, suggestion)));
        }
        this.sawSuggestions ||= isShown && this.task.suggestions.length > 0;
    }

    /**
     * What models say to a question: of each one the latest, the latest of all first.
     * @param {string} id
     */
    suggestionsFor(id) {
        const latest = new Map(this.task.suggestions.map(({ agent, suggestions }) =>
            [agent.name, suggestions.find(({ question }) => question === id)]));
        return [...latest].flatMap(([model, suggestion]) => (suggestion ? [{ model, ...suggestion }] : [])).reverse();
    }

    /**
     * @param {Review['parts'][number]} part
     * @param {ReturnType<Review['suggestionsFor']>[number]} suggestion
     */
    suggestion({ question, control, element }, { model, answer, score }) {
        const title = inLanguage(question.title);
        const take = () => {
            control.write(answer);
            this.showVisible();
            element.focus();
            announce(`Taken for ${title}`);
        };
        const meter = h('meter', { min: 0, max: 1, low: 0.5, high: 0.8, optimum: 1, value: score, 'aria-hidden': 'true' });
        return h('div', { class: 'suggestion' }, h('span', {}, `${model}:`),
            h('span', { class: 'answer' }, answerText(question, answer, this.task.fields, this.fieldTitles)),
            score !== undefined && h('span', {}, meter, ` ${percent(score)} sure`),
            h('button', { type: 'button', class: 'small', 'aria-label': `Take what ${model} suggests for ${title}`, onclick: take }, 'Take'));
    }

    /** Takes what is suggested where there is no answer yet; questions that are asked because of that, too. */
    takeAll() {
        for (const part of this.parts) {
            const [suggestion] = this.showsSuggestions() ? this.suggestionsFor(part.question.id) : [];
            if (suggestion && !part.element.hidden && this.soFar(part) === undefined) {
                part.control.write(suggestion.answer);
                this.showVisible();
            }
        }
        announce('Suggestions are taken.');
    }

    /**
     * The answers, or null if one cannot be read: then its question says why.
     * @returns {import('./types').Answers | null}
     */
    read() {
        /** @type {import('./types').AnswerProblem[]} */
        const problems = [];
        const answers = this.asked().map((part) => {
            try {
                return [part.question.id, part.control.read()];
            } catch (error) {
                problems.push({ question: part.question.id, path: '', code: 'unreadable', message: /** @type {Error} */ (error).message });
                return [part.question.id, undefined];
            }
        });
        this.showProblems(problems);
        return problems.length > 0 ? null : Object.fromEntries(answers.filter(([, answer]) => answer !== undefined));
    }

    /**
     * Shows what is wrong beside the questions, and puts the focus to the first of them.
     * @param {import('./types').AnswerProblem[]} problems
     */
    showProblems(problems) {
        for (const { question, wrong, element } of this.parts) {
            const own = problems.filter((problem) => problem.question === question.id);
            // The server's message begins with the name of the question, which is seen here.
            const said = own.map(({ message }) => (message.startsWith(question.id) ? message.slice(question.id.length).replace(/^: /, '') : message));
            wrong.textContent = said.join('\n');
            element.querySelectorAll('input, textarea, select').forEach((input) => input.setAttribute('aria-invalid', String(own.length > 0)));
        }
        this.parts.find(({ wrong }) => wrong.textContent)?.element.focus();
    }

    /**
     * Hands in the answers, or that there will be none, and opens the next task.
     * @param {'submitted' | 'discarded'} status
     */
    async answer(status) {
        const annotator = reviewer.get('name');
        if (!annotator) {
            throw new Error('Say your name first, under “How you review”: your answers are kept under it.');
        }
        const answers = status === 'submitted' ? this.read() : {};
        if (answers === null) {
            return;
        }
        try {
            this.task = await api.annotate({
                task_id: this.task.id, version: this.task.version, annotator, status, answers,
                prefilled: this.sawSuggestions, lead_time: (performance.now() - this.started) / 1000,
            });
        } catch (error) {
            if (error instanceof ApiError && error.details.length > 0) {
                this.showProblems(error.details);
            }
            throw error;
        }
        notify(status === 'submitted' ? 'Saved.' : 'Skipped.');
        await openNext(this.schema.id, this.task.id);
    }

    async toggleGold() {
        await api.setGold([this.task.id], !this.isMarked(), reviewer.get('name'));
        this.task = await api.task(this.task.id);
        this.showState();
        if (this.isMarked() && !this.task.gold.is_gold) {
            notify('Marked as gold, which it will be with answers that hold.');
        } else {
            announce(this.task.gold.is_gold ? 'This record is gold.' : 'This record is not gold.');
        }
    }

    /** @param {Element | undefined} element */
    setCurrent(element) {
        this.current = element;
        this.parts.forEach((part) => part.element.classList.toggle('current', part.element === element));
    }

    /** The question that keys are about: the first one, if the last one that was in use is not asked any more. */
    currentPart() {
        return this.asked().find(({ element }) => element === this.current) ?? this.asked()[0];
    }

    /** @param {number} by */
    move(by) {
        const asked = this.asked();
        const at = asked.indexOf(this.currentPart()) + by;
        asked[Math.min(Math.max(at, 0), asked.length - 1)]?.element.focus();
    }

    /** @param {KeyboardEvent} event */
    onKey(event) {
        const { key, target } = event;
        if (this.help.open || event.altKey || event.metaKey || event.isComposing) {
            return;
        }
        if (event.ctrlKey) {
            if (key === 'Enter') {
                event.preventDefault();
                this.save.click();
            }
        } else if (takesText(target)) {
            if (key === 'Escape') {
                this.currentPart()?.element.focus();
            } else if (key === 'Enter' && target instanceof HTMLInputElement && this.isOwn(target)) {
                event.preventDefault();
                this.save.click();
            }
        } else if (reviewer.get('keys') === 'on' && this.onShortcut(key, target)) {
            event.preventDefault();
        }
    }

    /**
     * Does what a key stands for, and says whether it stands for something.
     * @param {string} key
     * @param {EventTarget | null} target
     */
    onShortcut(key, target) {
        if (/^[1-9]$/.test(key)) {
            this.currentPart()?.control.choose?.(Number(key) - 1);
            return true;
        }
        /** @type {Record<string, (() => void) | false>} */
        const actions = {
            j: () => this.move(1),
            k: () => this.move(-1),
            i: () => /** @type {HTMLElement | null} */ (this.currentPart()?.element.querySelector('input, textarea, select'))?.focus(),
            a: () => this.takeAll(),
            g: this.schema.gold.manual && (() => this.gold.click()),
            s: () => this.skip.click(),
            '?': () => this.help.showModal(),
            // Buttons and links have a use for it themselves.
            Enter: !(target instanceof Element && target.closest('button, a, summary')) && (() => this.save.click()),
        };
        const action = Object.hasOwn(actions, key) && actions[key];
        if (action) {
            action();
        }
        return Boolean(action);
    }

    /** @param {Element} element */
    isOwn(element) {
        return this.parts.some((part) => part.element.contains(element));
    }
}

/**
 * Whether keys write something there.
 * @param {EventTarget | null} target
 */
function takesText(target) {
    return target instanceof HTMLSelectElement || (target instanceof HTMLTextAreaElement && !target.readOnly)
        || (target instanceof HTMLInputElement && !['radio', 'checkbox'].includes(target.type));
}

function helpDialog() {
    const keys = h('input', { type: 'checkbox', id: 'keys', checked: reviewer.get('keys') === 'on' });
    keys.addEventListener('change', () => reviewer.set('keys', keys.checked ? 'on' : 'off'));
    const dialog = h('dialog', { 'aria-labelledby': 'keys-title' },
        h('h2', { id: 'keys-title' }, 'Keys'),
        h('dl', { class: 'facts' }, KEYS.flatMap(([key, does]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, does)])),
        h('p', {}, h('label', { for: 'keys' }, keys, ' Single keys do something')),
        h('button', { type: 'button', class: 'main', onclick: () => dialog.close() }, 'Close'));
    return dialog;
}
