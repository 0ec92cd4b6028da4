//! Which project belongs to a schema?
//!
//! One for each name and major version. The project's description says which version of the schema it has, so that a project
//! is found again by any process.

use semver::Version;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{number, text, unexpected};
use super::{LabelStudio, LabelStudioError};
use crate::curate::{CompiledSchema, LocalizedText, SchemaDiff, SchemaRegistry};

type Result<T> = std::result::Result<T, LabelStudioError>;

/// Begins the line of a description that names the schema.
const MARK: &str = "vllm_batch schema: ";
/// Label Studio's limit on titles, in characters.
const MAX_TITLE: usize = 50;

/// A project on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Project {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub title: String,
    /// Its labelling configuration.
    pub label_config: String,
    /// The schema that it belongs to, as name and version; absent if this library did not make it.
    pub schema: Option<(String, Version)>,
    /// SHA-256 of the schema's canonical JSON, if it belongs to one.
    pub schema_sha256: Option<String>,
}

/// What a project is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectSpec<'a> {
    /// The schema that it belongs to.
    pub schema: &'a CompiledSchema,
    /// Its labelling configuration.
    pub label_config: String,
    /// Annotations that each task gets. Default 1.
    pub annotations_per_task: usize,
    /// Whether people see a model's answers before they give their own. Default true.
    pub show_predictions: bool,
}

impl<'a> ProjectSpec<'a> {
    /// The project of a schema with a labelling configuration. White space around it is dropped, as the server does.
    pub fn new(schema: &'a CompiledSchema, label_config: &str) -> Self {
        Self { schema, label_config: label_config.trim().to_owned(), annotations_per_task: 1, show_predictions: true }
    }

    /// Sets how many annotations each task gets.
    #[must_use]
    pub fn with_annotations_per_task(mut self, annotations: usize) -> Self {
        self.annotations_per_task = annotations;
        self
    }

    /// Says whether people see a model's answers before they give their own.
    #[must_use]
    pub fn with_show_predictions(mut self, show: bool) -> Self {
        self.show_predictions = show;
        self
    }

    fn body(&self) -> Value {
        let schema = self.schema.schema();
        let reference = schema.reference();
        let head = schema.description.as_ref().map_or("", LocalizedText::as_str);
        let suffix = format!(" v{}", reference.version.major);
        let name: String = reference.id.as_str().chars().take(MAX_TITLE - suffix.len()).collect();
        json!({
            "title": format!("{name}{suffix}"),
            "description": format!("{head}\n{MARK}{reference} {}", self.schema.sha256()).trim_start(),
            "label_config": self.label_config,
            "maximum_annotations": self.annotations_per_task,
            "show_collab_predictions": self.show_predictions,
        })
    }
}

impl LabelStudio {
    /// Asks the server whether a labelling configuration can be used.
    ///
    /// # Errors
    /// [`LabelStudioError::Refused`] with what is wrong, and as all calls.
    pub fn validate_config(&self, label_config: &str) -> Result<()> {
        self.send_again(&Method::POST, "/api/projects/validate/", &json!({"label_config": label_config})).map(drop)
    }

    /// A project.
    ///
    /// # Errors
    /// As all calls.
    pub fn project(&self, project: u64) -> Result<Project> {
        Project::read(&self.get(&format!("/api/projects/{project}/"))?)
    }

    /// The project of a schema and its major version, the newest if there are several.
    ///
    /// # Errors
    /// As all calls.
    pub fn find_project(&self, schema: &CompiledSchema) -> Result<Option<Project>> {
        let wanted = schema.schema().reference();
        for page in 1.. {
            let list = match self.get(&format!("/api/projects/?page={page}&page_size=100&ordering=-id")) {
                Err(LabelStudioError::NotFound { .. }) => break,
                list => list?,
            };
            let results = list["results"].as_array().ok_or_else(|| unexpected("it has no list of projects"))?;
            for one in results {
                let project = Project::read(one)?;
                let is_it = |(id, version): &(String, Version)| {
                    wanted.id.as_str() == id && wanted.version.major == version.major
                };
                if project.schema.as_ref().is_some_and(is_it) {
                    return Ok(Some(project));
                }
            }
            if list["next"].is_null() {
                break;
            }
        }
        Ok(None)
    }

    /// The project of a schema and its major version: the one that is there, else a new one. If it has an older version of
    /// the schema, that is replaced, once it is sure that no answer loses its meaning: Label Studio itself would take away an
    /// option that is in use. `registry` must know the version that is replaced.
    ///
    /// # Errors
    /// [`LabelStudioError::SchemaConflict`] if the project has a newer version, another document of the same version, or a
    /// version that the registry does not know or that this one breaks with; and as all calls.
    pub fn ensure_project(&self, spec: &ProjectSpec<'_>, registry: &SchemaRegistry) -> Result<Project> {
        let Some(project) = self.find_project(spec.schema)? else {
            return self.create_project(spec);
        };
        if project.schema_sha256.as_deref() == Some(spec.schema.sha256()) && project.label_config == spec.label_config {
            return Ok(project);
        }
        check_change(&project, spec.schema, registry)?;
        let path = format!("/api/projects/{}/", project.id);
        let config = json!({"label_config": spec.label_config});
        self.send_again(&Method::POST, &format!("{path}validate/"), &config)?;
        Project::read(&self.send_again(&Method::PATCH, &path, &spec.body())?)
    }

    /// Makes a project. If the answer gets lost, it is looked for before it is made again.
    fn create_project(&self, spec: &ProjectSpec<'_>) -> Result<Project> {
        let mut is_lost = false;
        self.again(|| {
            if is_lost && let Some(project) = self.find_project(spec.schema)? {
                return Ok(project);
            }
            is_lost = true;
            Project::read(&self.send(&Method::POST, "/api/projects/", &spec.body())?)
        })
    }

    /// Deletes a project with all that is in it.
    ///
    /// # Errors
    /// As all calls.
    pub fn delete_project(&self, project: u64) -> Result<()> {
        self.delete(&format!("/api/projects/{project}/"))
    }
}

fn check_change(project: &Project, schema: &CompiledSchema, registry: &SchemaRegistry) -> Result<()> {
    let wanted = schema.schema().reference();
    let Some((id, version)) = &project.schema else { return Ok(()) };
    let conflict = |message: &str| {
        Err(LabelStudioError::SchemaConflict {
            project: project.id,
            found: format!("{id}@{version}"),
            schema: wanted.to_string(),
            message: message.to_owned(),
        })
    };
    let is_same = project.schema_sha256.as_deref() == Some(schema.sha256());
    if is_same {
        return Ok(());
    }
    if *version >= wanted.version {
        return conflict("its version is not older");
    }
    let Some(old) =
        registry.get_version(id, version).filter(|old| project.schema_sha256.as_deref() == Some(old.sha256()))
    else {
        return conflict("the registry does not have it, so that it cannot be compared");
    };
    if SchemaDiff::between(old.schema(), schema.schema()).allows(version, &wanted.version) {
        Ok(())
    } else {
        conflict("the new version changes more than its number says")
    }
}

impl Project {
    fn read(value: &Value) -> Result<Self> {
        let mark = value["description"].as_str().and_then(|text| text.lines().find_map(|line| line.strip_prefix(MARK)));
        let parts = mark.and_then(|mark| mark.split_once(' '));
        let schema = parts.and_then(|(reference, _)| {
            let (id, version) = reference.split_once('@')?;
            Some((id.to_owned(), version.parse().ok()?))
        });
        Ok(Self {
            id: number(value, "id")?,
            title: text(value, "title")?,
            label_config: text(value, "label_config")?,
            schema,
            schema_sha256: parts.map(|(_, sha256)| sha256.trim().to_owned()),
        })
    }
}
