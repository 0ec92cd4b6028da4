// Elements, formats and waiting: what all views use.

/** @typedef {Node | string | boolean | null | undefined} Child */

/**
 * Builds an element. Attributes whose names begin with `on` are listeners; true is an attribute without a value. What is null, undefined
 * or false is left out, of attributes as of children; children that are true, too. Texts stay texts: there is no way to put markup in.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith('on')) {
            element.addEventListener(name.slice(2), value);
        } else if (value !== false && value !== null && value !== undefined) {
            element.setAttribute(name, value === true ? '' : String(value));
        }
    }
    element.append(...nodes(children));
    return element;
}

/**
 * Puts children in the place of those that are there.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
    element.replaceChildren(...nodes(children));
}

/**
 * Puts newer children in the place of those that are there, and the focus back to where it was among them.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function refresh(element, ...children) {
    const focused = element.contains(document.activeElement) ? keyOf(document.activeElement) : null;
    fill(element, ...children);
    if (focused !== null) {
        const again = [...element.querySelectorAll('a, button, [tabindex]')].find((one) => keyOf(one) === focused);
        /** @type {HTMLElement | undefined} */ (again)?.focus({ preventScroll: true });
    }
}

/**
 * Shows data in an element, and anew only if they are others than before: what people read or chose there stays as it is.
 * @template T
 * @param {Element} element
 * @param {(data: T) => Child | Child[]} build
 * @returns {(data: T) => void}
 */
export function shown(element, build) {
    let before = '';
    return (data) => {
        const now = JSON.stringify(data);
        if (now !== before) {
            before = now;
            refresh(element, build(data));
        }
    };
}

/**
 * What tells an element that can have the focus from the others near it.
 * @param {Element | null} element
 */
function keyOf(element) {
    return element && (element.getAttribute('href') ?? element.getAttribute('aria-label') ?? element.textContent);
}

/**
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
    return /** @type {(Node | string)[]} */ (children.flat().filter((child) => child === '' || (child && child !== true)));
}

/**
 * The element of this id, which the page always has.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
    const element = document.getElementById(id);
    if (!element) {
        throw new Error(`the page has no #${id}`);
    }
    return element;
}

/**
 * A name that no other element has.
 * @param {string} prefix
 */
export function uniqueId(prefix) {
    uniqueId.last += 1;
    return `${prefix}-${uniqueId.last}`;
}
uniqueId.last = 0;

/**
 * A labelled control: the label names it, the hint describes it.
 * @param {string} text
 * @param {HTMLElement} control
 * @param {string} [hint]
 */
export function labelled(text, control, hint) {
    control.id ||= uniqueId('control');
    const note = hint ? h('span', { class: 'hint', id: `${control.id}-hint` }, hint) : null;
    if (note) {
        control.setAttribute('aria-describedby', note.id);
    }
    return h('div', { class: 'control' }, h('label', { for: control.id }, text), control, note);
}

/**
 * A list to choose from.
 * @param {[value: string, label: string][]} options
 * @param {string} [chosen]
 * @param {Record<string, any>} [attributes]
 */
export function select(options, chosen, attributes = {}) {
    const items = options.map(([value, label]) => h('option', { value, selected: value === chosen }, label));
    return h('select', attributes, items);
}

/**
 * A table with a caption that screen readers read.
 * @param {string} caption
 * @param {string[]} heads
 * @param {(Child | Child[])[][]} rows
 */
export function table(caption, heads, rows) {
    const head = h('tr', {}, heads.map((text) => h('th', { scope: 'col' }, text)));
    const body = rows.map((cells) => h('tr', {}, cells.map((cell) => h('td', {}, cell))));
    // On narrow screens it scrolls by itself, which the keyboard must reach.
    return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
        h('table', {}, h('caption', {}, caption), h('thead', {}, head), h('tbody', {}, body)));
}

/**
 * Says something to people who do not see the page.
 * @param {string} text
 */
export function announce(text) {
    byId('announcement').textContent = text;
}

/**
 * Shows a message: an error until the next one, anything else for a while.
 * @param {string} text
 * @param {'error' | 'done'} [kind]
 */
export function notify(text, kind = 'done') {
    const place = byId(kind === 'error' ? 'error' : 'note');
    fill(place, h('p', {}, text), h('button', { type: 'button', 'aria-label': 'Close message', onclick: () => fill(place) }, '×'));
    if (kind === 'done') {
        fill(byId('error'));
        const shown = place.firstChild;
        setTimeout(() => place.firstChild === shown && fill(place), 6000);
    }
}

/**
 * Shows what went wrong.
 * @param {unknown} error
 */
export function notifyError(error) {
    notify(error instanceof Error ? error.message : String(error), 'error');
}

/**
 * A button whose action takes time: it cannot be pressed again before, and an error is shown.
 * @param {string} text
 * @param {() => Promise<unknown>} action
 * @param {Record<string, any>} [attributes]
 */
export function actionButton(text, action, attributes = {}) {
    const button = h('button', { type: 'button', ...attributes }, text);
    button.addEventListener('click', () => whileBusy(button, action));
    return button;
}

/**
 * Does something while a button says that it is busy. It keeps the focus, which a disabled one would lose.
 * @param {HTMLElement} button
 * @param {() => Promise<unknown>} action
 */
export async function whileBusy(button, action) {
    if (button.getAttribute('aria-disabled') === 'true') {
        return;
    }
    button.setAttribute('aria-disabled', 'true');
    try {
        await action();
    } catch (error) {
        notifyError(error);
    } finally {
        button.removeAttribute('aria-disabled');
    }
}

/**
 * Calls `update` now and every `seconds`, half as often after each failure up to once a minute, and not while nobody sees the page.
 * @param {() => Promise<boolean | void>} update ends it all by answering false
 * @param {number} seconds
 * @param {AbortSignal} signal ends it, too
 */
export async function poll(update, seconds, signal) {
    let wait = seconds;
    let hasFailed = false;
    while (!signal.aborted) {
        if (!document.hidden) {
            try {
                if ((await update()) === false) {
                    return;
                }
                if (hasFailed) {
                    fill(byId('error'));
                }
                hasFailed = false;
                wait = seconds;
            } catch (error) {
                if (signal.aborted) {
                    return;
                }
                notifyError(error);
                hasFailed = true;
                wait = Math.min(wait * 2, 60);
            }
        }
        await pause(wait * 1000, signal);
    }
}

/**
 * Waits, at most until the signal or until the page is seen again.
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function pause(milliseconds, signal) {
    return new Promise((resolve) => {
        const ended = new AbortController();
        const end = () => {
            clearTimeout(timer);
            ended.abort();
            resolve();
        };
        const timer = setTimeout(end, milliseconds);
        signal.addEventListener('abort', end, { signal: ended.signal });
        document.addEventListener('visibilitychange', end, { signal: ended.signal });
    });
}

const wholeNumbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const shortNumbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

/** @param {number} value */
export const count = (value) => wholeNumbers.format(value);

/** @param {number} value */
export const decimal = (value) => shortNumbers.format(value);

/** @param {number} share from 0 to 1 */
export const percent = (share) => `${wholeNumbers.format(share * 100)} %`;

/** @param {number} bytes */
export function size(bytes) {
    const step = bytes < 1e3 ? 0 : bytes < 1e6 ? 1 : bytes < 1e9 ? 2 : 3;
    return `${shortNumbers.format(bytes / 1000 ** step)} ${['B', 'kB', 'MB', 'GB'][step]}`;
}

/**
 * A time, by which it is read and by which it is sorted.
 * @param {number | null | undefined} seconds Unix time
 * @returns {Child}
 */
export function moment(seconds) {
    if (seconds === null || seconds === undefined) {
        return null;
    }
    const date = new Date(seconds * 1000);
    return h('time', { datetime: date.toISOString() }, moments.format(date));
}

/**
 * How long something takes: `2 h 5 min`, `3 min 20 s`, `7 s`.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
    if (seconds === null || seconds === undefined) {
        return 'unknown';
    }
    const whole = Math.max(0, Math.round(seconds));
    const units = [[Math.floor(whole / 86400), 'd'], [Math.floor(whole / 3600) % 24, 'h'],
        [Math.floor(whole / 60) % 60, 'min'], [whole % 60, 's']];
    const first = units.findIndex(([number]) => number !== 0);
    const shown = first < 0 ? units.slice(-1) : units.slice(first, first + 2).filter(([number], at) => number !== 0 || at === 0);
    return shown.map(([number, unit]) => `${number} ${unit}`).join(' ');
}

/**
 * Calls an action once its listener was not called for a while.
 * @param {() => Promise<unknown>} action
 */
export function debounced(action, milliseconds = 250) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    return () => {
        clearTimeout(timer);
        timer = setTimeout(() => action().catch(notifyError), milliseconds);
    };
}
