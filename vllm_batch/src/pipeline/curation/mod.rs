//! How do records get suggestions?
//!
//! Everything is in files: `requests.jsonl` is made of the records, a [`BatchRunner`] makes `answers.jsonl`, which is the
//! journal, and `suggestions.jsonl` and `rejected.jsonl` are made of both. What is made of other files is replaced as a whole, so
//! that a run that was killed at any point is begun again, and only what the journal lacks costs anything.

mod error;
mod records;
mod report;
pub(super) mod rows;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::error::at;
use self::records::Records;
use crate::batch::{BatchReport, BatchRequestOutput, BatchRunner, CancellationToken, Progress, RunError};
use crate::curate::durable::rename_synced;
use crate::curate::{AnswerError, CompiledSchema, Provenance, Record, RequestOptions};
use crate::engine::BatchEngine;

pub use error::CurationError;
pub use report::{CurationReport, Rejection, Stage};
pub use rows::batch_line;

type Result<T> = std::result::Result<T, CurationError>;

/// Asks a model about records, reads and checks what it says, and hands that on for review; each record once, whatever
/// happens in between.
///
/// # Example
/// ```
/// use vllm_batch::curate::SchemaRegistry;
/// use vllm_batch::pipeline::CurationPipeline;
/// use vllm_batch::testing::ScriptedEngine;
///
/// let folder = tempfile::tempdir()?;
/// let records = folder.path().join("records.jsonl");
/// std::fs::write(&records, r#"{"id": "cv-1", "fields": {"resume_text": "Ann, eight years of Rust"}}"#)?;
///
/// let schema = SchemaRegistry::builtin().get("cv_parsing").expect("it is built in");
/// let engine = ScriptedEngine::new(|_| Ok(r#"{"years_experience": 8, "seniority": "Senior"}"#.to_owned()));
/// let pipeline = CurationPipeline::new(&schema, &engine).records(&records).folder(folder.path());
/// let report = pipeline.run()?;
/// assert_eq!((report.records, report.suggested, report.rejected), (1, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a pipeline does nothing until `run` is called"]
pub struct CurationPipeline<'a> {
    schema: &'a CompiledSchema,
    engine: &'a dyn BatchEngine,
    records: Option<PathBuf>,
    folder: Option<PathBuf>,
    options: RequestOptions,
    batch_id: Option<String>,
    cancellation: CancellationToken,
    on_progress: Box<dyn Fn(&Progress) + 'a>,
    progress_interval: Duration,
}

impl<'a> CurationPipeline<'a> {
    /// A pipeline that needs [`records`](Self::records) and a [`folder`](Self::folder).
    pub fn new(schema: &'a CompiledSchema, engine: &'a dyn BatchEngine) -> Self {
        Self {
            schema,
            engine,
            records: None,
            folder: None,
            options: RequestOptions::default().with_logprobs(true),
            batch_id: None,
            cancellation: CancellationToken::new(),
            on_progress: Box::new(|_| {}),
            progress_interval: Duration::from_millis(500),
        }
    }

    /// The records, as JSONL: objects with `id`, `fields` by their names, and perhaps `metadata`. The file is read several
    /// times, and must not change meanwhile.
    pub fn records(mut self, path: impl AsRef<Path>) -> Self {
        self.records = Some(path.as_ref().to_owned());
        self
    }

    /// Where the pipeline keeps its files. It must exist, and belong to this pipeline alone.
    pub fn folder(mut self, path: impl AsRef<Path>) -> Self {
        self.folder = Some(path.as_ref().to_owned());
        self
    }

    /// How the model is asked. Default: one answer in JSON at temperature 0, with log-probabilities, from which scores come.
    pub fn options(mut self, options: RequestOptions) -> Self {
        self.options = options;
        self
    }

    /// A name for the batch, kept with each answer.
    pub fn batch_id(mut self, batch_id: impl Into<String>) -> Self {
        self.batch_id = Some(batch_id.into());
        self
    }

    /// Lets others stop the run; see [`BatchRunner::cancellation`].
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = token;
        self
    }

    /// Is called as the engine goes on; see [`BatchRunner::on_progress`].
    pub fn on_progress(mut self, callback: impl Fn(&Progress) + 'a) -> Self {
        self.on_progress = Box::new(callback);
        self
    }

    /// The least time between two calls of [`on_progress`](Self::on_progress). Default: half a second.
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    /// Asks about all records that have no answer yet, and writes all suggestions. Blocks this thread. After an error or a crash,
    /// the same call goes on.
    ///
    /// # Errors
    /// [`CurationError`]. A record that cannot be used is none: the report says where to find it.
    pub fn run(&self) -> Result<CurationReport> {
        let folder = self.work_folder()?;
        self.write_requests()?;
        let batch = BatchRunner::new(self.engine)
            .input(folder.join("requests.jsonl"))
            .output(folder.join("answers.jsonl"))
            .resume(true)
            .cancellation(self.cancellation.clone())
            .on_progress(&self.on_progress)
            .progress_interval(self.progress_interval)
            .run();
        match batch {
            Ok(batch) => self.write_suggestions(Some(batch)),
            Err(RunError::EmptyInput { .. }) => self.write_suggestions(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The records that a model answered about, with its answers, in the order of the input; read from the files of a run.
    ///
    /// # Errors
    /// [`CurationError::Io`], here and of each item.
    pub fn suggested(&self) -> Result<impl Iterator<Item = Result<Record>> + '_> {
        let outcomes = self.outcomes()?;
        Ok(outcomes.filter_map(|outcome| match outcome {
            Ok(outcome) => outcome.record.ok().map(|(record, _)| Ok(record)),
            Err(error) => Some(Err(error)),
        }))
    }

    #[cfg(feature = "label-studio")]
    pub(super) fn schema(&self) -> &'a CompiledSchema {
        self.schema
    }

    pub(super) fn work_folder(&self) -> Result<&Path> {
        self.folder.as_deref().ok_or(CurationError::MissingOption { option: "folder" })
    }

    fn records_path(&self) -> Result<&Path> {
        self.records.as_deref().ok_or(CurationError::MissingOption { option: "records" })
    }

    fn open_records(&self) -> Result<Records<'a>> {
        let path = self.records_path()?;
        Records::open(self.schema, path).map_err(at(path))
    }

    /// The records that the schema can use.
    #[cfg(feature = "label-studio")]
    pub(super) fn usable_records(&self) -> Result<impl Iterator<Item = Result<Record>> + '_> {
        let path = self.records_path()?;
        Ok(self.open_records()?.filter_map(move |record| match record.map_err(at(path)) {
            Ok((_, record)) => record.ok().map(Ok),
            Err(error) => Some(Err(error)),
        }))
    }

    fn write_requests(&self) -> Result<()> {
        let path = self.records_path()?;
        let model = self.options.model.as_deref().unwrap_or_else(|| self.engine.spec().model());
        let mut file = Replacement::new(self.work_folder()?.join("requests.jsonl"))?;
        for record in self.open_records()? {
            // What cannot be asked about is told with the suggestions.
            if let (_, Ok(record)) = record.map_err(at(path))?
                && let Ok(request) = self.schema.request(&record, &self.options)
            {
                file.write(&batch_line(&request, model))?;
            }
        }
        file.finish()
    }

    fn write_suggestions(&self, batch: Option<BatchReport>) -> Result<CurationReport> {
        let folder = self.work_folder()?;
        let (suggestions_path, rejections_path) = (folder.join("suggestions.jsonl"), folder.join("rejected.jsonl"));
        let mut suggestions = Replacement::new(suggestions_path.clone())?;
        let mut rejections = Replacement::new(rejections_path.clone())?;
        let mut report = CurationReport {
            records: 0,
            suggested: 0,
            rejected: 0,
            cut_off: 0,
            unreadable_answers: 0,
            batch,
            suggestions_path,
            rejections_path,
        };
        for outcome in self.outcomes()? {
            let Outcome { line, record } = outcome?;
            report.records += 1;
            match record {
                Ok((record, errors)) => {
                    report.suggested += 1;
                    report.cut_off += usize::from(is_cut_off(&record));
                    report.unreadable_answers += errors.len();
                    suggestions.write(&record)?;
                    errors.iter().try_for_each(|error| rejections.write(&rejected_answer(line, &record, error)))?;
                }
                Err(rejection) => {
                    report.rejected += 1;
                    rejections.write(&rejection)?;
                }
            }
        }
        suggestions.finish()?;
        rejections.finish()?;
        Ok(report)
    }

    fn outcomes(&self) -> Result<impl Iterator<Item = Result<Outcome>> + '_> {
        let path = self.records_path()?;
        let mut answers = Answers::open(self.work_folder()?)?;
        Ok(self.open_records()?.map(move |record| {
            let (line, record) = record.map_err(at(path))?;
            let record = match record {
                Ok(record) => self.outcome(line, record, &mut answers)?,
                Err(rejection) => Err(rejection),
            };
            Ok(Outcome { line, record })
        }))
    }

    fn outcome(
        &self,
        line: usize,
        mut record: Record,
        answers: &mut Answers,
    ) -> Result<std::result::Result<(Record, Vec<AnswerError>), Rejection>> {
        let reject = |stage, code: &str, message: String| Rejection {
            line,
            id: Some(record.id.clone()),
            stage,
            code: code.to_owned(),
            message,
        };
        let request = match self.schema.request(&record, &self.options) {
            Ok(request) => request,
            Err(error) => return Ok(Err(reject(Stage::Prompt, error.code(), error.to_string()))),
        };
        let Some(row) = answers.row(&record.id)? else {
            return Ok(Err(reject(Stage::Model, "no_answer", "the run ended before its turn".to_owned())));
        };
        let (output, model) = match rows::answer(row, line) {
            Ok(answer) => answer,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut provenance = Provenance::of(&request, model);
        provenance.model_revision = Some(self.engine.spec().revision.clone());
        provenance.batch_id.clone_from(&self.batch_id);
        let suggested = self.schema.suggest(&record, &output, provenance);
        record.suggestions.push(suggested.set);
        Ok(Ok((record, suggested.errors)))
    }
}

impl fmt::Debug for CurationPipeline<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CurationPipeline")
            .field("schema", &self.schema.schema().reference())
            .field("records", &self.records)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// What became of one record: it has suggestions, and perhaps answers that could not be used, or it goes no further.
struct Outcome {
    line: usize,
    record: std::result::Result<(Record, Vec<AnswerError>), Rejection>,
}

/// Whether the answer that came last was cut off.
fn is_cut_off(record: &Record) -> bool {
    let last = record.suggestions.last();
    last.and_then(|set| set.provenance.finish_reason.as_deref()) == Some("length")
}

fn rejected_answer(line: usize, record: &Record, error: &AnswerError) -> Rejection {
    let note = if is_cut_off(record) { " (what the model wrote was cut off)" } else { "" };
    let (code, message) = (error.code().to_owned(), format!("{error}{note}"));
    Rejection { line, id: Some(record.id.clone()), stage: Stage::Answer, code, message }
}

/// The rows of the journal, by name. Only their places are held.
struct Answers {
    files: Vec<(PathBuf, BufReader<File>)>,
    places: HashMap<String, (usize, u64)>,
}

#[derive(Deserialize)]
struct Named {
    custom_id: Option<String>,
}

impl Answers {
    fn open(folder: &Path) -> Result<Self> {
        let mut answers = Self { files: Vec::new(), places: HashMap::new() };
        for name in ["answers.errors.jsonl", "answers.jsonl"] {
            let path = folder.join(name);
            match File::open(&path) {
                Ok(file) => answers.add(path, BufReader::new(file))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(CurationError::Io { path, source }),
            }
        }
        Ok(answers)
    }

    fn add(&mut self, path: PathBuf, mut file: BufReader<File>) -> Result<()> {
        let (mut bytes, mut offset) = (Vec::new(), 0);
        while file.read_until(b'\n', &mut bytes).map_err(at(&path))? > 0 {
            // A run that is cut off leaves half a row, which is none.
            if let Ok(Named { custom_id: Some(id) }) = serde_json::from_slice(&bytes) {
                self.places.insert(id, (self.files.len(), offset));
            }
            offset += bytes.len() as u64;
            bytes.clear();
        }
        self.files.push((path, file));
        Ok(())
    }

    fn row(&mut self, id: &str) -> Result<Option<BatchRequestOutput>> {
        let Some((file, offset)) = self.places.get(id) else { return Ok(None) };
        let (path, file) = &mut self.files[*file];
        let mut read = || {
            let mut line = String::new();
            file.seek(SeekFrom::Start(*offset))?;
            file.read_line(&mut line)?;
            serde_json::from_str(&line).map_err(io::Error::from)
        };
        read().map(Some).map_err(at(path))
    }
}

/// A file of JSON lines that takes the place of another one when it is whole.
struct Replacement {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl Replacement {
    fn new(path: PathBuf) -> Result<Self> {
        let part = path.with_extension("jsonl.part");
        let file = BufWriter::new(File::create(&part).map_err(at(&part))?);
        Ok(Self { path, part, file })
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        written.and_then(|()| self.file.write_all(b"\n")).map_err(at(&self.part))
    }

    fn finish(mut self) -> Result<()> {
        self.file.flush().map_err(at(&self.part))?;
        rename_synced(self.file.get_ref(), &self.part, &self.path).map_err(at(&self.path))
    }
}

#[cfg(test)]
mod tests;
