// Markdown as elements, never as markup: what is not understood stays the text that it is. Headings, paragraphs, lists, quotes,
// code, emphasis and links, after https://spec.commonmark.org; no HTML and no images.

import { h } from './dom.js';

/** @typedef {import('./dom.js').Child} Child */

/** Headings of a text stand below those of the page, the highest that it has first. */
const HEADINGS = /** @type {const} */ (['h3', 'h4', 'h5']);
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const ITEM = /^ {0,3}(?:([-*+])|(\d{1,9})[.)])\s+(.*)$/;
const STARTS_BLOCK = /^(?: {0,3}(?:#{1,6}\s|>|```|~~~|[-*+]\s|\d{1,9}[.)]\s)|\s*$)/;
/** Bounded, so that no text takes long: what goes on for more than 500 characters is no emphasis. */
const INLINE = /(`+)(.{1,500}?)\1(?!`)|\*\*(?=\S)(.{1,500}?)\*\*|__(?=\S)(.{1,500}?)__|\*(?=\S)(.{1,500}?)\*|(?<!\w)_(?=\S)(.{1,500}?)_(?!\w)|\[([^\]]{1,500})\]\(\s*<?([^\s<>)]{1,2000})>?[^)]{0,200}\)|<(https?:[^\s<>]{1,2000})>|\\([!-/:-@[-`{-~])/su;

/**
 * @param {string} text
 * @returns {HTMLElement}
 */
export function markdown(text) {
    const lines = text.replaceAll('\r\n', '\n').split('\n');
    const levels = new Set(lines.map((line) => HEADING.exec(line)?.[1].length ?? 0).filter((level) => level > 0));
    return h('div', { class: 'markdown' }, blocks(lines, [...levels].sort()));
}

/**
 * @param {string[]} lines
 * @param {number[]} levels those of headings that the text has, in order
 * @returns {Child[]}
 */
function blocks(lines, levels) {
    const made = [];
    for (let at = 0; at < lines.length;) {
        const [block, next] = blockAt(lines, at, levels);
        made.push(block);
        at = next;
    }
    return made;
}

/**
 * The block that begins at a line, and the line after it.
 * @param {string[]} lines
 * @param {number} at
 * @param {number[]} levels
 * @returns {[Child, number]}
 */
function blockAt(lines, at, levels) {
    const line = lines[at];
    if (line.trim() === '') {
        return [null, at + 1];
    }
    const fence = /^ {0,3}(`{3,}|~{3,})/.exec(line);
    if (fence) {
        const end = indexFrom(lines, at + 1, (one) => one.trim().startsWith(fence[1]));
        return [h('pre', {}, h('code', {}, lines.slice(at + 1, end).join('\n'))), end + 1];
    }
    const heading = HEADING.exec(line);
    if (heading) {
        const below = levels.indexOf(heading[1].length);
        return [h(HEADINGS[Math.min(Math.max(below, 0), HEADINGS.length - 1)], {}, inline(heading[2])), at + 1];
    }
    if (/^ {0,3}([-*_])(?:\s*\1){2,}\s*$/.test(line)) {
        return [h('hr'), at + 1];
    }
    if (/^ {0,3}>/.test(line)) {
        const end = indexFrom(lines, at, (one) => !/^ {0,3}>/.test(one));
        return [h('blockquote', {}, blocks(lines.slice(at, end).map((one) => one.replace(/^ {0,3}> ?/, '')), levels)), end];
    }
    const item = ITEM.exec(line);
    return item ? listAt(lines, at, item[1] === undefined, levels) : paragraphAt(lines, at);
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {boolean} isOrdered
 * @param {number[]} levels
 * @returns {[Child, number]}
 */
function listAt(lines, at, isOrdered, levels) {
    /** @type {string[][]} */
    const items = [];
    let next = at;
    for (; next < lines.length; next += 1) {
        const item = ITEM.exec(lines[next]);
        if (item && (item[1] === undefined) === isOrdered) {
            items.push([item[3]]);
        } else if (/^(?: {2,}|\t)\S/.test(lines[next])) {
            items[items.length - 1].push(lines[next].replace(/^(?: {1,4}|\t)/, ''));
        } else {
            break;
        }
    }
    return [h(isOrdered ? 'ol' : 'ul', {}, items.map(([first, ...rest]) => h('li', {}, inline(first), blocks(rest, levels)))), next];
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {[Child, number]}
 */
function paragraphAt(lines, at) {
    const end = indexFrom(lines, at + 1, (line) => STARTS_BLOCK.test(line));
    return [h('p', {}, inline(lines.slice(at, end).join('\n'))), end];
}

/**
 * The first line from one on of which something is so, else the end.
 * @param {string[]} lines
 * @param {number} from
 * @param {(line: string) => boolean} isSo
 */
function indexFrom(lines, from, isSo) {
    const found = lines.slice(from).findIndex(isSo);
    return found < 0 ? lines.length : from + found;
}

/**
 * @param {string} text
 * @returns {Child[]}
 */
function inline(text) {
    /** @type {Child[]} */
    const made = [];
    let rest = text;
    for (let match = INLINE.exec(rest); match; match = INLINE.exec(rest)) {
        made.push(rest.slice(0, match.index), inlineElement(match));
        rest = rest.slice(match.index + match[0].length);
    }
    return [...made, rest];
}

/**
 * @param {RegExpExecArray} match
 * @returns {Child}
 */
function inlineElement([all, , code, strong1, strong2, em1, em2, label, target, address, escaped]) {
    if (code !== undefined) {
        return h('code', {}, code.trim());
    }
    const strong = strong1 ?? strong2;
    const em = em1 ?? em2;
    if (strong !== undefined) {
        return h('strong', {}, inline(strong));
    }
    if (em !== undefined) {
        return h('em', {}, inline(em));
    }
    return escaped ?? link(target ?? address, label ?? address) ?? all;
}

/**
 * A link to elsewhere; null for addresses that are not of the web.
 * @param {string} address
 * @param {string} [text]
 */
export function link(address, text = address) {
    return /^https?:\/\//i.test(address)
        ? h('a', { href: address, target: '_blank', rel: 'noopener noreferrer nofollow' }, text) : null;
}
