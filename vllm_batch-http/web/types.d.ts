// What the server sends and takes, as far as the page uses it. For type checks alone: no browser reads this file.

export interface ErrorBody {
    message: string;
    type?: string;
    param?: string | null;
    code?: string | null;
    /** What is wrong with single answers. */
    details?: AnswerProblem[];
}

export interface List<T> {
    data: T[];
    has_more: boolean;
    last_id?: string | null;
}

export interface FileObject {
    id: string;
    bytes: number;
    filename: string;
}

export type BatchStatus =
    | 'validating' | 'failed' | 'in_progress' | 'finalizing' | 'completed' | 'expired' | 'cancelling' | 'cancelled';

export interface Batch {
    id: string;
    endpoint: string;
    model: string | null;
    errors: { data: { code: string | null; message: string; param: string | null; line: number | null }[] } | null;
    input_file_id: string;
    completion_window: string;
    status: BatchStatus;
    output_file_id: string | null;
    error_file_id: string | null;
    created_at: number;
    in_progress_at: number | null;
    expires_at: number | null;
    finalizing_at: number | null;
    completed_at: number | null;
    failed_at: number | null;
    expired_at: number | null;
    cancelling_at: number | null;
    cancelled_at: number | null;
    request_counts: { total: number; completed: number; failed: number };
    usage: {
        input_tokens: number;
        input_tokens_details: { cached_tokens: number };
        output_tokens: number;
        total_tokens: number;
    } | null;
    metadata: Record<string, string> | null;
    priority?: number;
}

export interface NewBatch {
    input_file_id: string;
    endpoint: string;
    completion_window: string;
    metadata?: Record<string, string>;
    priority?: number;
}

export interface FailedRows {
    data: { custom_id: string | null; line: number | null; code: string | null; message: string }[];
    has_more: boolean;
}

export interface QueueReport {
    data: QueuedBatch[];
    workers: Worker[];
    tokens_per_second: number;
}

export interface QueuedBatch {
    batch_id: string;
    position: number;
    status: BatchStatus;
    model: string | null;
    priority: number;
    request_counts: { total: number; completed: number; failed: number };
    requests_left: number | null;
    eta_seconds: number | null;
}

export interface Worker {
    name: string;
    models: string[];
    started_at: number;
    last_seen: number;
    tokens_per_second: number;
}

/** A text, or texts by language. */
export type Localized = string | Record<string, string>;

export interface SchemaSummary {
    id: string;
    version: string;
    name: Localized;
    description?: Localized;
}

export interface Schema {
    id: string;
    version: string;
    name: Localized;
    description?: Localized;
    guidelines?: Localized;
    fields: Field[];
    questions: Question[];
    rendering: { layout: 'single-column' | 'two-columns' | 'grid'; show_suggestions: boolean; show_fields: boolean; show_help: boolean };
    gold: { manual: boolean };
}

export interface Field {
    id: string;
    title: Localized;
    type: 'text' | 'chat' | 'structured' | 'file' | 'number' | 'boolean' | 'date';
    format?: 'plain' | 'markdown' | 'html';
    display: 'header' | 'body' | 'list' | 'timeline' | 'table' | 'collapsible' | 'markdown' | 'link' | 'hidden';
    default?: unknown;
}

export interface Option {
    value: string;
    label: Localized;
    help?: Localized;
    children?: Option[];
}

export type Condition =
    | { answered: string }
    | { is: { question: string; any_of: unknown[] } }
    | { field: { field: string; any_of: unknown[] } }
    | { not: Condition }
    | { all: Condition[] }
    | { any: Condition[] };

interface QuestionBase {
    id: string;
    title: Localized;
    help?: Localized;
    role: 'output' | 'review' | 'reasoning';
    required: boolean;
    default?: unknown;
    visible_when?: Condition;
}

export type Question = QuestionBase & (
    | { type: 'choice'; options: Option[]; multiple: boolean; min: number; max?: number }
    | { type: 'rating'; options?: Option[]; min?: number; max?: number }
    | { type: 'boolean'; yes: Localized; no: Localized }
    | { type: 'number'; min?: number; max?: number; step?: number; integer: boolean; unit?: string }
    | { type: 'text'; min_chars?: number; max_chars?: number; multiline: boolean; many: boolean }
    | { type: 'date'; only: 'date' | 'date_time' | 'year' }
    | { type: 'structured'; schema: unknown }
    | { type: 'preference'; left: string; right: string; tie: boolean }
    | { type: 'ranking'; field: string }
    | { type: 'taxonomy'; tree: Option[]; multiple: boolean }
    | { type: 'span'; field: string; labels: Option[]; overlap: boolean }
);

export type Answers = Record<string, unknown>;

export interface Suggestion {
    question: string;
    answer: unknown;
    score?: number;
    score_kind: 'none' | 'logprob' | 'vote' | 'self_report';
}

export interface CurationTask {
    id: string;
    schema: string;
    record_id: string;
    version: number;
    status: 'pending' | 'annotated' | 'gold';
    fields: Record<string, any>;
    suggestions: { agent: { name: string }; suggestions: Suggestion[] }[];
    responses: { agent: { name: string }; answers: Answers; status: 'draft' | 'submitted' | 'discarded' }[];
    gold: { is_gold: boolean; manual: boolean | null; reasons: string[] };
}

export interface TaskQuery {
    schema: string;
    status?: string;
    annotator?: string;
    q?: string;
    after?: string;
    limit?: number;
}

export interface NewAnnotation {
    task_id: string;
    annotator: string;
    answers: Answers;
    status: 'submitted' | 'discarded';
    prefilled?: boolean;
    lead_time?: number;
    version: number;
}

export interface AnswerProblem {
    question: string;
    path: string;
    code: string;
    message: string;
}

export interface CurationStats {
    total: number;
    pending: number;
    annotated: number;
    gold: number;
}

export type Estimate = { value: number; lower?: number; upper?: number } | { undefined: string };

export interface Agreement {
    groups: {
        compared: string | { model_human: { model: string } };
        shown: 'all' | 'blind' | 'prefilled';
        overall: number | null;
        questions: {
            question: string;
            num_units: number;
            num_answers: number;
            measure: string;
            similarity: Estimate;
            alpha: Estimate;
            kappa: Estimate;
        }[];
    }[];
}
