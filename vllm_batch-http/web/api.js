// The server: what is asked of it and how its errors are told.

/** @typedef {import('./types').Batch} Batch */
/** @typedef {import('./types').CurationTask} CurationTask */

const KEY = 'vllm_batch.key';

/** What the server refused, in its own words. */
export class ApiError extends Error {
    /**
     * @param {number} status
     * @param {import('./types').ErrorBody} body
     */
    constructor(status, body) {
        super(body.message);
        this.status = status;
        this.code = body.code ?? null;
        this.param = body.param ?? null;
        this.details = body.details ?? [];
    }
}

/** @type {(message: string) => Promise<string | null>} */
let askForKey = async () => null;
/** @type {Promise<string | null> | null} */
let asking = null;

/**
 * Says who asks people for an API key when the server wants one.
 * @param {(message: string) => Promise<string | null>} ask answers the key, or null if there is none
 */
export function useKeysFrom(ask) {
    askForKey = ask;
}

/** The key of this tab: gone when it is closed. */
export const key = {
    get: () => sessionStorage.getItem(KEY),
    /** @param {string | null} value */
    set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/**
 * The address of a path of the API; the page is one level below it.
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} [query] what is empty is left out
 */
export function address(path, query = {}) {
    const url = new URL(`../${path}`, document.baseURI);
    for (const [name, value] of Object.entries(query)) {
        if (value !== null && value !== undefined && value !== '') {
            url.searchParams.set(name, String(value));
        }
    }
    return url.href;
}

/** @returns {Record<string, string>} */
function authorization() {
    const value = key.get();
    return value ? { authorization: `Bearer ${value}` } : {};
}

/**
 * Does a request, and once more with another key if it was refused for the one that it had.
 * @template T
 * @param {() => Promise<T>} request
 * @returns {Promise<T>}
 */
async function withKey(request) {
    const used = key.get();
    try {
        return await request();
    } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 401) {
            throw error;
        }
        // Others may have been refused at the same time: people are asked once, and not if there is a new key already.
        if (key.get() === used) {
            asking ??= askForKey(error.message).finally(() => (asking = null));
            if (!(await asking)) {
                throw error;
            }
        }
        return request();
    }
}

/**
 * Asks the server.
 * @param {string} method
 * @param {string} url
 * @param {{ json?: unknown, signal?: AbortSignal }} [options]
 * @returns {Promise<Response>} one that is no error
 */
export function send(method, url, { json, signal } = {}) {
    return withKey(async () => {
        const headers = authorization();
        if (json !== undefined) {
            headers['content-type'] = 'application/json';
        }
        const body = json === undefined ? undefined : JSON.stringify(json);
        let response;
        try {
            response = await fetch(url, { method, headers, body, signal });
        } catch (error) {
            throw signal?.aborted ? error : new Error('The server cannot be reached.');
        }
        if (!response.ok) {
            throw new ApiError(response.status, errorBody(await response.text(), response.status));
        }
        return response;
    });
}

/**
 * @param {string} text
 * @param {number} status
 * @returns {import('./types').ErrorBody}
 */
function errorBody(text, status) {
    try {
        const { error } = JSON.parse(text);
        if (typeof error?.message === 'string') {
            return error;
        }
    } catch {
        // It does not come from this server, but from something before it.
    }
    return { message: `The server answered with status ${status}.` };
}

/**
 * @param {string} url
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
const get = async (url, signal) => (await send('GET', url, { signal })).json();

/**
 * @param {string} url
 * @param {unknown} [json]
 * @returns {Promise<any>}
 */
const post = async (url, json = {}) => (await send('POST', url, { json })).json();

/**
 * Uploads a file, and says how much of it has gone. `fetch` cannot say that.
 * @param {File} file
 * @param {(share: number) => void} onProgress
 * @param {AbortSignal} signal
 * @returns {Promise<import('./types').FileObject>}
 */
export function upload(file, onProgress, signal) {
    const form = new FormData();
    form.append('purpose', 'batch');
    form.append('file', file, file.name);
    return withKey(() => new Promise((resolve, reject) => {
        const request = new XMLHttpRequest();
        request.open('POST', address('v1/files'));
        for (const [name, value] of Object.entries(authorization())) {
            request.setRequestHeader(name, value);
        }
        request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
        request.onerror = () => reject(new Error('The upload broke off: the server cannot be reached.'));
        request.onabort = () => reject(new Error('The upload was stopped.'));
        request.onload = () => {
            const { status, responseText } = request;
            if (status === 200) {
                resolve(JSON.parse(responseText));
            } else {
                reject(new ApiError(status, errorBody(responseText, status)));
            }
        };
        signal.addEventListener('abort', () => request.abort());
        request.send(form);
    }));
}

/**
 * Saves what the server answers as a file.
 * @param {Response} response
 * @param {string} name
 */
export async function save(response, name) {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await response.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * Saves the content of a file. Without a key the browser does it, which keeps nothing of it in memory.
 * @param {string} id
 * @param {string} name
 */
export async function saveFile(id, name) {
    const url = address(`v1/files/${encodeURIComponent(id)}/content`);
    if (key.get()) {
        await save(await send('GET', url), name);
        return;
    }
    await send('HEAD', url);
    const link = document.createElement('a');
    link.href = url;
    link.download = name;
    link.click();
}

/** @param {string} id */
const batch = (id) => `v1/batches/${encodeURIComponent(id)}`;
/** @param {string} id */
const schema = (id) => `v1/schemas/${encodeURIComponent(id)}`;
/** @param {string | number} id */
const task = (id) => `v1/curation/tasks/${encodeURIComponent(id)}`;

/** All that is asked of the server, call by call. */
export const api = {
    /** @param {AbortSignal} signal @returns {Promise<import('./types').QueueReport>} */
    queue: (signal) => get(address('v1/queue'), signal),
    /** @param {{ limit?: number, after?: string }} query @param {AbortSignal} [signal] @returns {Promise<import('./types').List<Batch>>} */
    batches: (query, signal) => get(address('v1/batches', query), signal),
    /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<Batch>} */
    batch: (id, signal) => get(address(batch(id)), signal),
    /** @param {import('./types').NewBatch} wanted @returns {Promise<Batch>} */
    createBatch: (wanted) => post(address('v1/batches'), wanted),
    /** @param {string} id @returns {Promise<Batch>} */
    cancelBatch: (id) => post(address(`${batch(id)}/cancel`)),
    /** @param {string} id @returns {Promise<Batch>} */
    retryFailed: (id) => post(address(`${batch(id)}/retry`)),
    /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<import('./types').FailedRows>} */
    failedRows: (id, signal) => get(address(`${batch(id)}/failed`), signal),

    /** @param {AbortSignal} [signal] @returns {Promise<import('./types').List<import('./types').SchemaSummary>>} */
    schemas: (signal) => get(address('v1/schemas'), signal),
    /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<import('./types').Schema>} */
    schema: (id, signal) => get(address(schema(id)), signal),
    /** @param {import('./types').TaskQuery} query @param {AbortSignal} [signal] @returns {Promise<import('./types').List<CurationTask>>} */
    tasks: (query, signal) => get(address('v1/curation/tasks', { ...query }), signal),
    /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<CurationTask>} */
    task: (id, signal) => get(address(task(id)), signal),
    /** @param {{ schema: string, strategy: string, annotator: string, after?: string }} query @returns {Promise<CurationTask | null>} */
    nextTask: async (query) => (await get(address('v1/curation/tasks/next', query))).task,
    /** @param {import('./types').NewAnnotation} annotation @returns {Promise<CurationTask>} */
    annotate: (annotation) => post(address('v1/curation/annotations'), annotation),
    /** @param {string[]} taskIds @param {boolean} gold @param {string} by who says so @returns {Promise<{ marked: string[] }>} */
    setGold: (taskIds, gold, by) => post(address('v1/curation/gold'), { task_ids: taskIds, gold, ...(by && { by }) }),
    /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<import('./types').CurationStats>} */
    stats: (id, signal) => get(address('v1/curation/stats', { schema: id }), signal),
    /** @param {string} id @returns {Promise<import('./types').Agreement>} */
    agreement: (id) => get(address('v1/curation/agreement', { schema: id })),
    /** @param {Record<string, unknown>} options @returns {Promise<Response>} */
    exportRows: (options) => send('POST', address('v1/curation/export'), { json: options }),
};
