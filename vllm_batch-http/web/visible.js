// Which questions are asked: the rule of the schema's conditions, as the server has it.

/** @typedef {import('./types').Condition} Condition */

/**
 * The questions that are asked of a record with these fields and answers, in order. An answer to a question that is not asked does
 * not count for those after it.
 * @param {import('./types').Question[]} questions
 * @param {import('./types').Answers} answers
 * @param {Record<string, unknown>} fields
 */
export function visibleQuestions(questions, answers, fields) {
    const counting = { ...answers };
    return questions.filter((question) => {
        const isAsked = !question.visible_when || holds(question.visible_when, counting, fields);
        if (!isAsked) {
            delete counting[question.id];
        }
        return isAsked;
    });
}

/**
 * @param {Condition} condition
 * @param {import('./types').Answers} answers
 * @param {Record<string, unknown>} fields
 * @returns {boolean}
 */
function holds(condition, answers, fields) {
    if ('answered' in condition) {
        return answers[condition.answered] !== undefined;
    }
    if ('is' in condition) {
        return isAnyOf(answers[condition.is.question], condition.is.any_of);
    }
    if ('field' in condition) {
        return isAnyOf(fields[condition.field.field], condition.field.any_of);
    }
    if ('not' in condition) {
        return !holds(condition.not, answers, fields);
    }
    if ('all' in condition) {
        return condition.all.every((one) => holds(one, answers, fields));
    }
    return condition.any.some((one) => holds(one, answers, fields));
}

/**
 * Whether a value, or one item of a list, is one of these.
 * @param {unknown} value
 * @param {unknown[]} anyOf
 */
function isAnyOf(value, anyOf) {
    if (value === undefined || value === null) {
        return false;
    }
    /** @param {unknown} item */
    const has = (item) => anyOf.some((one) => sameJson(one, item));
    return has(value) || (Array.isArray(value) && value.some(has));
}

/**
 * Whether two JSON values say the same, objects in any order of keys.
 * @param {unknown} a
 * @param {unknown} b
 * @returns {boolean}
 */
export function sameJson(a, b) {
    if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) {
        return a === b;
    }
    const [left, right] = [Object.entries(a), Object.entries(b)];
    const other = new Map(right);
    return Array.isArray(a) === Array.isArray(b) && left.length === right.length
        && left.every(([name, value]) => other.has(name) && sameJson(value, other.get(name)));
}
