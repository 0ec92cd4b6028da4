//! A dataset as a folder.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

#[cfg(feature = "parquet")]
use super::parquet::ParquetRows;
use super::split::group_key;
use super::{
    Conflict, DuplicateOptions, Duplicates, ExportError, ExportFormat, ExportReport, ExportRow, Exported, Exporter,
    SkipReason, Split, Splits, side_files,
};
use crate::curate::Record;
use crate::curate::agreement::{AgreementOptions, agreement};
use crate::curate::compile::hex;
use crate::curate::durable::rename_synced;

/// What a folder has besides rows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FolderOptions {
    /// Shares for validation and tests; absent: all rows are in the exporter's own split.
    pub splits: Option<Splits>,
    /// The key of records' metadata that says which split they are in, before all others.
    pub split_key: Option<String>,
    /// When a record says the same as one before, and is left out; absent: never. What is compared is what a model reads.
    pub duplicates: Option<DuplicateOptions>,
    /// Whether rows are written as Parquet files, with the same columns, for formats that are tables.
    #[cfg(feature = "parquet")]
    pub parquet: bool,
    /// What people call the dataset; absent: the schema's name.
    pub name: Option<String>,
    /// The licence, as Hugging Face names it; absent: `other`.
    pub license: Option<String>,
    /// How the agreement of people is computed that the card tells, if two people answered a record; absent: it tells none.
    /// All records count, also those that are in no file: those that people agree on are gold more often.
    pub agreement: Option<AgreementOptions>,
    /// Languages, as in `en`.
    pub languages: Vec<String>,
    /// What else the card says, as Markdown.
    pub notes: String,
}

impl Default for FolderOptions {
    /// All rows in the exporter's own split, as JSON Lines, and agreement with intervals in the card.
    fn default() -> Self {
        Self {
            splits: None,
            split_key: None,
            duplicates: None,
            #[cfg(feature = "parquet")]
            parquet: false,
            name: None,
            license: None,
            agreement: Some(AgreementOptions::default()),
            languages: Vec::new(),
            notes: String::new(),
        }
    }
}

/// A folder that was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExportedFolder {
    /// What became of the records.
    pub report: ExportReport,
    /// The files of rows.
    pub files: Vec<DataFile>,
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DataFile {
    /// What its rows are for.
    pub split: Split,
    /// Where it is.
    pub path: PathBuf,
    /// Its rows.
    pub num_rows: usize,
    /// Its bytes.
    pub num_bytes: u64,
    /// SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

impl Exporter<'_> {
    /// Writes a folder: `data/train.jsonl` and so on, a line in `skipped.jsonl` for each record that is not in them, a line in
    /// `conflicts.jsonl` for each question that people answered differently ([`Conflict`](super::Conflict)), and the files
    /// that readers of the format want beside them: a card (`README.md`), `dataset_info.json` of LLaMA-Factory, a
    /// piece of an Axolotl configuration (`axolotl.yml`), `settings.json` of Argilla. Where rows have no room for where they
    /// come from, it stands in `data/train.sources.jsonl`, line by line.
    ///
    /// A file is not there under its name before it is complete. Duplicates are left out before rows are split.
    ///
    /// # Errors
    /// As [`rows`](Self::rows); a record names a split that there is not; records of one group are in two splits; a file
    /// cannot be written.
    pub fn write_folder<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r Record>,
        folder: impl AsRef<Path>,
        options: &FolderOptions,
    ) -> Result<ExportedFolder, ExportError> {
        let folder = folder.as_ref();
        #[cfg(feature = "parquet")]
        if options.parquet && !self.options().format.is_table() {
            return Err(ExportError::NotATable { format: self.options().format });
        }
        let mut writer = FolderWriter::create(folder, options, self.options().format)?;
        let mut all = Vec::new();
        for record in records {
            let split = writer.split_of(self, record)?;
            let exported = writer.without_duplicates(record, self.rows_for(record, split)?);
            writer.add(record, split, &exported)?;
            writer.add_conflicts(&self.conflicts(record))?;
            all.push(record);
        }
        let written = writer.finish()?;
        let agreement = options.agreement.as_ref().map(|options| agreement(self.full_schema(), &all, options));
        for (name, content) in side_files::side_files(self, options, &written, agreement.as_ref()) {
            write_file(&folder.join(name), content.as_bytes())?;
        }
        Ok(written)
    }
}

struct FolderWriter<'o> {
    folder: PathBuf,
    options: &'o FolderOptions,
    format: ExportFormat,
    report: ExportReport,
    data: Vec<Data>,
    skipped: Output,
    conflicts: Output,
    duplicates: Option<Duplicates>,
    groups: HashMap<[u8; 32], Split>,
}

impl<'o> FolderWriter<'o> {
    fn create(folder: &Path, options: &'o FolderOptions, format: ExportFormat) -> Result<Self, ExportError> {
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(|source| ExportError::Io { path: data, source })?;
        Ok(Self {
            skipped: Output::create(folder.join("skipped.jsonl"))?,
            conflicts: Output::create(folder.join("conflicts.jsonl"))?,
            folder: folder.to_owned(),
            options,
            format,
            report: ExportReport::default(),
            data: Vec::new(),
            duplicates: options.duplicates.map(Duplicates::new),
            groups: HashMap::new(),
        })
    }

    /// Where a record goes, which must be where its group is.
    fn split_of(&mut self, exporter: &Exporter<'_>, record: &Record) -> Result<Split, ExportError> {
        let key = group_key(exporter.full_schema(), record);
        let own = self.options.split_key.as_ref().and_then(|key| record.metadata.get(key));
        let Some(own) = own else {
            let splits = self.options.splits.as_ref();
            let split = splits.map_or(exporter.options().split, |splits| splits.of_key(&key));
            return self.keep_together(record, &key, split);
        };
        let split = Split::ALL.into_iter().find(|split| own.as_str() == Some(split.name()));
        let unknown = || ExportError::UnknownSplit { record: record.id.clone(), found: own.to_string() };
        self.keep_together(record, &key, split.ok_or_else(unknown)?)
    }

    fn keep_together(&mut self, record: &Record, key: &str, split: Split) -> Result<Split, ExportError> {
        // Without splits of the records' own, the key alone decides.
        if self.options.split_key.is_none() {
            return Ok(split);
        }
        let first = *self.groups.entry(Sha256::digest(key).into()).or_insert(split);
        if first == split {
            return Ok(split);
        }
        Err(ExportError::SplitGroup { record: record.id.clone(), first, second: split })
    }

    fn without_duplicates(&mut self, record: &Record, exported: Exported) -> Exported {
        let (Some(duplicates), Exported::Rows(rows)) = (&mut self.duplicates, &exported) else { return exported };
        let text = rows.first().map_or("", |row| row.text.as_str());
        match duplicates.insert(&record.id, text) {
            Some(found) => Exported::Skipped(SkipReason::Duplicate { of: found.of, similarity: found.similarity }),
            None => exported,
        }
    }

    fn add(&mut self, record: &Record, split: Split, exported: &Exported) -> Result<(), ExportError> {
        self.report.count(exported);
        match exported {
            Exported::Skipped(reason) => {
                let line = json!({"record_id": record.id, "code": reason.code(), "reason": reason.to_string()});
                self.skipped.write_line(&line)
            }
            Exported::Rows(rows) => rows.iter().try_for_each(|row| self.add_row(split, row)),
        }
    }

    fn add_row(&mut self, split: Split, row: &ExportRow) -> Result<(), ExportError> {
        let format = self.format;
        let at = match self.data.iter().position(|data| data.split == split) {
            Some(at) => at,
            None => self.open(split)?,
        };
        let data = &mut self.data[at];
        data.num_rows += 1;
        data.rows.write(row, format)?;
        let Some(sources) = &mut data.sources else { return Ok(()) };
        sources.write_line(&row.source)
    }

    fn add_conflicts(&mut self, conflicts: &[Conflict]) -> Result<(), ExportError> {
        self.report.count_conflicts(conflicts);
        conflicts.iter().try_for_each(|conflict| self.conflicts.write_line(conflict))
    }

    fn open(&mut self, split: Split) -> Result<usize, ExportError> {
        let data = self.folder.join("data");
        let rows = self.create_rows(&data, split)?;
        let sources = data.join(format!("{split}.sources.jsonl"));
        let sources = self.format.is_strict().then(|| Output::create(sources)).transpose()?;
        self.data.push(Data { split, rows, sources, num_rows: 0 });
        Ok(self.data.len() - 1)
    }

    fn create_rows(&self, data: &Path, split: Split) -> Result<RowsFile, ExportError> {
        #[cfg(feature = "parquet")]
        if self.options.parquet {
            let file = Output::create(data.join(format!("{split}.parquet")))?;
            return Ok(RowsFile::Parquet(Box::new(ParquetRows::new(file))));
        }
        Output::create(data.join(format!("{split}.{}", self.format.extension()))).map(RowsFile::Lines)
    }

    fn finish(mut self) -> Result<ExportedFolder, ExportError> {
        self.data.sort_by_key(|data| data.split);
        let mut files = Vec::new();
        for Data { split, rows, sources, num_rows } in self.data {
            let (path, num_bytes, sha256) = rows.finish()?;
            files.push(DataFile { split, path, num_rows, num_bytes, sha256 });
            if let Some(sources) = sources {
                sources.finish()?;
            }
        }
        self.skipped.finish()?;
        self.conflicts.finish()?;
        Ok(ExportedFolder { report: self.report, files })
    }
}

/// The files of a split.
struct Data {
    split: Split,
    rows: RowsFile,
    sources: Option<Output>,
    num_rows: usize,
}

enum RowsFile {
    Lines(Output),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetRows<Output>>),
}

impl RowsFile {
    fn write(&mut self, row: &ExportRow, format: ExportFormat) -> Result<(), ExportError> {
        match self {
            Self::Lines(output) => output.write(|file| row.write(format, file)),
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => {
                rows.push(&row.row).map_err(|source| ExportError::Io { path: PathBuf::new(), source })
            }
        }
    }

    /// The name, the bytes and the SHA-256 of the complete file.
    fn finish(self) -> Result<(PathBuf, u64, String), ExportError> {
        match self {
            Self::Lines(output) => output.finish(),
            #[cfg(feature = "parquet")]
            Self::Parquet(rows) => {
                rows.finish().map_err(|source| ExportError::Io { path: PathBuf::new(), source })?.finish()
            }
        }
    }
}

/// A file that is not there before it is complete.
struct Output {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<Hashed>,
}

#[cfg(feature = "parquet")]
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Output {
    fn create(path: PathBuf) -> Result<Self, ExportError> {
        let part = path.with_extension("part");
        let file = File::create(&part).map_err(|source| ExportError::Io { path: part.clone(), source })?;
        let file = BufWriter::with_capacity(1 << 16, Hashed { file, hash: Sha256::new(), num_bytes: 0 });
        Ok(Self { path, part, file })
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<Hashed>) -> io::Result<()>) -> Result<(), ExportError> {
        write(&mut self.file).map_err(|source| ExportError::Io { path: self.part.clone(), source })
    }

    fn write_line(&mut self, line: &impl Serialize) -> Result<(), ExportError> {
        self.write(|mut file| {
            serde_json::to_writer(&mut file, line)?;
            file.write_all(b"\n")
        })
    }

    fn finish(self) -> Result<(PathBuf, u64, String), ExportError> {
        let Self { path, part, file } = self;
        let io = |source| ExportError::Io { path: path.clone(), source };
        let hashed = file.into_inner().map_err(|error| io(error.into_error()))?;
        rename_synced(&hashed.file, &part, &path).map_err(io)?;
        let sha256 = hex(&hashed.hash.finalize());
        Ok((path, hashed.num_bytes, sha256))
    }
}

struct Hashed {
    file: File,
    hash: Sha256,
    num_bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.num_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), ExportError> {
    fs::write(path, content).map_err(|source| ExportError::Io { path: path.to_owned(), source })
}
