//! How does a conversation become a prompt, and how is its answer read?

use serde_json::{Map, Value};

use super::tools::{self, Tool, ToolChoice};
use crate::error::RequestError;

/// Variables that have a parameter of their own, or that the conversation itself is.
const RESERVED: [&str; 5] = ["messages", "tools", "chat_template", "add_generation_prompt", "continue_final_message"];

/// How a conversation is rendered and answered; without meaning for prompts of text or tokens.
///
/// # Example
/// ```
/// use vllm_batch::{ChatOptions, Message, Request};
///
/// // The answer goes on where the last message stops.
/// let messages = vec![Message::user("Name three primes."), Message::assistant("Sure: 2,")];
/// let chat = ChatOptions::default().with_add_generation_prompt(false).with_continue_final_message(true);
/// chat.validate()?;
/// let request = Request::new("row-1", messages).with_chat(chat);
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of the API")]
pub struct ChatOptions {
    /// The source of a Jinja template to use in place of the model's own.
    pub chat_template: Option<String>,
    /// Further variables for the template. They go before the model's special tokens of the same name.
    pub chat_template_kwargs: Map<String, Value>,
    /// Whether the prompt ends where the model's turn begins. Default true.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends with the content of the last message, so that the answer goes on with it. Excludes
    /// `add_generation_prompt`. Default false.
    pub continue_final_message: bool,
    /// The functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may, or must. Without meaning where there are no tools. Default [`ToolChoice::Auto`].
    pub tool_choice: ToolChoice,
    /// Whether it may call more than one in an answer. Default true.
    pub parallel_tool_calls: bool,
    /// Texts for models that answer out of them; what each looks like is up to the template.
    pub documents: Option<Vec<Value>>,
    /// Whether the model's thoughts come back, if the engine tells them from the answer (vLLM's name). Default true.
    pub include_reasoning: bool,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            chat_template: None,
            chat_template_kwargs: Map::new(),
            add_generation_prompt: true,
            continue_final_message: false,
            tools: Vec::new(),
            tool_choice: ToolChoice::default(),
            parallel_tool_calls: true,
            documents: None,
            include_reasoning: true,
        }
    }
}

impl ChatOptions {
    /// Sets [`chat_template`](Self::chat_template).
    #[must_use]
    pub fn with_chat_template(mut self, source: impl Into<String>) -> Self {
        self.chat_template = Some(source.into());
        self
    }

    /// Sets [`chat_template_kwargs`](Self::chat_template_kwargs).
    #[must_use]
    pub fn with_chat_template_kwargs(mut self, variables: Map<String, Value>) -> Self {
        self.chat_template_kwargs = variables;
        self
    }

    /// Sets [`add_generation_prompt`](Self::add_generation_prompt).
    #[must_use]
    pub fn with_add_generation_prompt(mut self, add_generation_prompt: bool) -> Self {
        self.add_generation_prompt = add_generation_prompt;
        self
    }

    /// Sets [`continue_final_message`](Self::continue_final_message).
    #[must_use]
    pub fn with_continue_final_message(mut self, continue_final_message: bool) -> Self {
        self.continue_final_message = continue_final_message;
        self
    }

    /// Sets [`tools`](Self::tools).
    #[must_use]
    pub fn with_tools(mut self, tools: Vec<Tool>) -> Self {
        self.tools = tools;
        self
    }

    /// Sets [`tool_choice`](Self::tool_choice).
    #[must_use]
    pub fn with_tool_choice(mut self, tool_choice: ToolChoice) -> Self {
        self.tool_choice = tool_choice;
        self
    }

    /// Sets [`parallel_tool_calls`](Self::parallel_tool_calls).
    #[must_use]
    pub fn with_parallel_tool_calls(mut self, parallel_tool_calls: bool) -> Self {
        self.parallel_tool_calls = parallel_tool_calls;
        self
    }

    /// Sets [`documents`](Self::documents).
    #[must_use]
    pub fn with_documents(mut self, documents: Vec<Value>) -> Self {
        self.documents = Some(documents);
        self
    }

    /// Sets [`include_reasoning`](Self::include_reasoning).
    #[must_use]
    pub fn with_include_reasoning(mut self, include_reasoning: bool) -> Self {
        self.include_reasoning = include_reasoning;
        self
    }

    /// Whether the model may call a function.
    pub(crate) fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`RequestError::InvalidParam`] for `continue_final_message` together with `add_generation_prompt`; for variables
    /// that are set in another way: `messages`, `tools`, `chat_template` and the two flags; for two tools of the same
    /// name, a bad name, parameters that are no schema, and a `tool_choice` of a tool that is not there.
    pub fn validate(&self) -> Result<(), RequestError> {
        if self.continue_final_message && self.add_generation_prompt {
            let message = "cannot be true together with `add_generation_prompt`: set that to false";
            return Err(RequestError::invalid("continue_final_message", message));
        }
        tools::validate(&self.tools, &self.tool_choice)?;
        match RESERVED.iter().find(|name| self.chat_template_kwargs.contains_key(**name)) {
            Some(name) => {
                let message = "this variable is set by the request's own parameters";
                Err(RequestError::invalid(format!("chat_template_kwargs.{name}"), message))
            }
            None => Ok(()),
        }
    }
}
