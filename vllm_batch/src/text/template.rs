//! Messages to one text, as the model's chat template says.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::SystemTime,
};

use minijinja::{AutoEscape, Environment, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{
    template_functions::{self, Raised},
    tool_calls::{ToolCallFormat, mentions_tools},
    tool_prompt::{describe_tools, write_out_calls},
};
use crate::{
    error::{LoadError, RequestError},
    request::{ChatOptions, Message},
};

/// A model's chat template: Jinja, as `transformers` runs it.
///
/// Templates see `messages`, `add_generation_prompt`, the model's special tokens, `tools` and `documents` (or none), and the
/// variables of the request. The arguments of calls are objects there. For a template that does not look at `tools`, they
/// are described in the system message, unless none may be called; and for one that does not look at `tool_calls`, calls
/// are written out in the Hermes format.
/// They may call `raise_exception(message)` and `strftime_now(format)` (in UTC, see [`with_time`](Self::with_time)), Python's
/// methods of strings and dictionaries, and `tojson` with Python's spelling of JSON. A template that runs away is stopped.
/// One thing is not as in Python: a loop over `none` does nothing.
///
/// # Example
/// ```
/// use vllm_batch::{Message, text::{ChatTemplate, SpecialTokens}};
///
/// let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
/// let template = ChatTemplate::new(source, SpecialTokens::default())?;
/// assert_eq!(template.render(&[Message::user("Hi")], true)?, "<user>Hi<assistant>");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: SpecialTokens,
    knows_tools: bool,
    knows_calls: bool,
    format: Option<ToolCallFormat>,
}

/// The special tokens that a template may write, as text. Those that are absent are undefined in the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialTokens {
    /// `bos_token`: begins a text.
    pub bos_token: Option<String>,
    /// `eos_token`: ends a text.
    pub eos_token: Option<String>,
    /// `unk_token`: stands for what the vocabulary cannot write.
    pub unk_token: Option<String>,
    /// `pad_token`: fills up a batch.
    pub pad_token: Option<String>,
}

impl SpecialTokens {
    /// The two tokens that templates use.
    #[must_use]
    pub fn new(bos_token: Option<String>, eos_token: Option<String>) -> Self {
        Self { bos_token, eos_token, ..Self::default() }
    }
}

/// Steps that one rendering may take: some seconds of work, and a thousand times what a long conversation needs.
const FUEL: u64 = 50_000_000;
const NAME: &str = "chat_template";
/// Stands after the content of a final message that is to be continued.
const FINAL_MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`LoadError::ChatTemplate`] when the source is not a template.
    pub fn new(source: &str, tokens: SpecialTokens) -> Result<Self, LoadError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        template_functions::install(&mut environment);
        template_functions::install_clock(&mut environment, SystemTime::now);
        let added = environment.add_template_owned(NAME, without_generation_marks(source));
        added.map_err(|error| LoadError::ChatTemplate { message: explain(&error) })?;
        let (knows_tools, knows_calls) = (mentions_tools(source), source.contains("tool_calls"));
        let format = ToolCallFormat::detect(source);
        Ok(Self { environment, tokens, knows_tools, knows_calls, format })
    }

    /// Makes `strftime_now` see this time, whenever the template is rendered. Without it, it sees the time of rendering.
    ///
    /// # Example
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use vllm_batch::text::{ChatTemplate, SpecialTokens};
    ///
    /// let template = ChatTemplate::new("Today is {{ strftime_now('%d %b %Y') }}.", SpecialTokens::default())?;
    /// let template = template.with_time(UNIX_EPOCH + Duration::from_hours(24));
    /// assert_eq!(template.render(&[], false)?, "Today is 02 Jan 1970.");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_time(mut self, time: SystemTime) -> Self {
        template_functions::install_clock(&mut self.environment, move || time);
        self
    }

    /// Renders a conversation; `add_generation_prompt` makes the text end where the model's answer begins.
    ///
    /// # Errors
    /// [`RequestError::Template`] when the template refuses the messages (with its own words), fails, or does not come
    /// to an end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, RequestError> {
        self.render_with(messages, &ChatOptions::default().with_add_generation_prompt(add_generation_prompt))
    }

    /// Renders a conversation with all options but `chat_template`, which this template takes the place of.
    ///
    /// A final message is continued as in `transformers`: a mark after its content is rendered with it, and what comes
    /// from the mark on is cut off; a template that trims contents cuts off the content's trailing white space, too.
    ///
    /// # Errors
    /// As [`render`](Self::render), and [`RequestError::Template`] when the final message to continue is not in the text.
    pub fn render_with(&self, messages: &[Message], options: &ChatOptions) -> Result<String, RequestError> {
        if !options.continue_final_message {
            return self.render_text(messages, options);
        }
        let mut marked = messages.to_vec();
        let content = marked.last_mut().map(|last| {
            let content = last.content.clone();
            last.content.push_str(FINAL_MARK);
            content
        });
        let text = self.render_text(&marked, options)?;
        content.and_then(|content| before_mark(text, &content)).ok_or_else(|| {
            let message = "the template does not write the final message, which was to be continued, as it is";
            RequestError::Template { message: message.to_owned() }
        })
    }

    /// How the model writes calls, as [`ToolCallFormat::detect`] tells by the template.
    #[must_use]
    pub fn tool_call_format(&self) -> Option<&ToolCallFormat> {
        self.format.as_ref()
    }

    fn render_text(&self, messages: &[Message], options: &ChatOptions) -> Result<String, RequestError> {
        let described = if self.knows_tools || !options.may_call() { &[] } else { options.tools.as_slice() };
        let mut messages = describe_tools(messages, described);
        if !self.knows_calls {
            messages = write_out_calls(&messages).into();
        }
        let messages: Vec<_> = messages.iter().map(Message::to_template_value).collect::<Result<_, _>>()?;
        let variables = self.variables(&messages, options);
        let rendered = catch_unwind(AssertUnwindSafe(|| self.environment.get_template(NAME)?.render(variables)));
        match rendered {
            Ok(result) => result.map_err(|error| RequestError::Template { message: explain(&error) }),
            Err(_) => Err(RequestError::Template { message: "the template engine broke off".to_owned() }),
        }
    }

    fn variables<'a>(&self, messages: &[serde_json::Value], options: &'a ChatOptions) -> BTreeMap<&'a str, Value> {
        let tools = (!options.tools.is_empty()).then_some(&options.tools);
        let tokens = [
            ("bos_token", &self.tokens.bos_token),
            ("eos_token", &self.tokens.eos_token),
            ("unk_token", &self.tokens.unk_token),
            ("pad_token", &self.tokens.pad_token),
        ];
        let mut variables = BTreeMap::from([
            ("messages", Value::from_serialize(messages)),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("tools", Value::from_serialize(tools)),
            ("documents", Value::from_serialize(&options.documents)),
        ]);
        variables.extend(tokens.into_iter().filter_map(|(name, token)| Some((name, Value::from(token.as_deref()?)))));
        variables.extend(
            options.chat_template_kwargs.iter().map(|(name, value)| (name.as_str(), Value::from_serialize(value))),
        );
        variables
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// The text up to the last mark, if the content is in it.
fn before_mark(mut text: String, content: &str) -> Option<String> {
    let mark = text.rfind(FINAL_MARK.trim_end()).filter(|_| text.contains(content.trim()))?;
    let is_trimmed = !text[mark..].starts_with(FINAL_MARK);
    text.truncate(mark);
    if is_trimmed {
        text.truncate(text.trim_end().len());
    }
    Some(text)
}

/// The words of `raise_exception`, or else what the template engine says with the reason behind it.
fn explain(error: &minijinja::Error) -> String {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(Raised(words)) = cause.downcast_ref() {
            return words.clone();
        }
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    message
}

/// Templates may mark the assistant's words with `{% generation %}` for training. The marks write nothing; they become
/// a block that always applies, so that the white space around them is treated as before.
fn without_generation_marks(source: &str) -> String {
    let mut output = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(end) = tag.find("%}") else { break };
        let (tag, after) = tag.split_at(end);
        let name = tag.trim_start_matches("{%").trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        output.push_str(before);
        match name {
            "generation" => output.push_str(&tag.replacen(name, "if true", 1)),
            "endgeneration" => output.push_str(&tag.replacen(name, "endif", 1)),
            _ => output.push_str(tag),
        }
        rest = after;
    }
    output + rest
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;
    use crate::request::{Role, Tool, ToolCall, ToolChoice};

    fn template(source: &str) -> ChatTemplate {
        let tokens = SpecialTokens::new(Some("<s>".to_owned()), Some("</s>".to_owned()));
        // 2025-03-07 08:05 UTC, a Friday.
        ChatTemplate::new(source, tokens).unwrap().with_time(UNIX_EPOCH + Duration::from_mins(29_022_245))
    }

    fn render(source: &str) -> Result<String, RequestError> {
        template(source).render(&[Message::user("a <b> 'c' \"d\"")], false)
    }

    #[test]
    fn templates_that_know_no_tools_are_helped() {
        let plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
        let tools = || vec![Tool::new("f")];
        let call = vec![ToolCall::new("1", "f", "{\"a\":1}")];
        let messages = [Message::user("x"), Message::assistant("").with_tool_calls(call), Message::tool("1", "3")];
        let written = "[user]x[assistant]<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>[tool]3";
        let auto = ChatOptions::default().with_tools(tools());
        let none = auto.clone().with_tool_choice(ToolChoice::None);
        assert_eq!(template(plain).render_with(&messages, &none).as_deref(), Ok(written));
        let described = template(plain).render_with(&messages, &auto).unwrap();
        assert!(
            described.starts_with("[system]You can call functions.") && described.ends_with(written),
            "{described}"
        );
        let knowing = format!("{{{{ tools | tojson }}}}{{{{ documents | tojson }}}}{plain}");
        let auto = auto.with_documents(vec![json!({"text": "d"})]);
        let rendered = template(&knowing).render_with(&messages[..1], &auto);
        let expected = r#"[{"type": "function", "function": {"name": "f"}}][{"text": "d"}][user]x"#;
        assert_eq!(rendered.as_deref(), Ok(expected));
    }

    #[test]
    fn requests_bring_variables_of_their_own() {
        let source = "{{ messages[0].content }}|{{ enable_thinking }}|{{ documents }}|{{ bos_token }}|{{ more.a[1] }}";
        let kwargs = json!({"enable_thinking": false, "documents": ["d"], "bos_token": "B", "more": {"a": [1, "é"]}});
        let options = ChatOptions::default().with_chat_template_kwargs(kwargs.as_object().unwrap().clone());
        let rendered = template(source).render_with(&[Message::user("x")], &options);
        assert_eq!(rendered.as_deref(), Ok("x|False|['d']|B|é"));
    }

    #[test]
    fn a_final_message_is_continued() {
        let keeping = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}";
        let trimming = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}";
        let options = ChatOptions::default().with_add_generation_prompt(false).with_continue_final_message(true);
        let failed = Err("template_error");
        let cases = [
            (keeping, "a", Ok("<user>a</user><assistant>a")),
            (keeping, " it is: \n", Ok("<user>a</user><assistant> it is: \n")),
            (keeping, "", Ok("<user>a</user><assistant>")),
            (trimming, " it is: ", Ok("<user>a</user><assistant>it is:")),
            (trimming, "assistant", Ok("<user>a</user><assistant>assistant")),
            ("{{ messages[0].content }}", "b", failed),
            ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "b", failed),
            ("{{ nothing.at_all }}", "b", failed),
        ];
        for (source, content, expected) in cases {
            let messages = [Message::user("a"), Message::assistant(content)];
            let rendered = template(source).render_with(&messages, &options);
            assert_eq!(rendered.as_deref().map_err(RequestError::code), expected, "{source} {content:?}");
        }
        let nothing = template(keeping).render_with(&[], &options);
        assert_eq!(nothing.as_deref().map_err(RequestError::code), failed);
    }

    #[test]
    fn every_role_has_its_name() {
        let roles = [Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool];
        let messages = roles.map(|role| Message::new(role, ""));
        let rendered = template("{% for m in messages %}{{ m.role }} {% endfor %}").render(&messages, false);
        assert_eq!(rendered.as_deref(), Ok("system developer user assistant tool "));
    }

    #[test]
    fn templates_are_python_in_small_things() {
        let cases = [
            ("{{ messages[0].content }}", "a <b> 'c' \"d\""),
            ("{{ messages[0].content | tojson }}", r#""a <b> 'c' \"d\"""#),
            ("{{ messages | tojson }}", r#"[{"role": "user", "content": "a <b> 'c' \"d\""}]"#),
            (
                "{{ {'b': [1, 'é🙂'], 'a': {}} | tojson(ensure_ascii=true) }}",
                r#"{"b": [1, "\u00e9\ud83d\ude42"], "a": {}}"#,
            ),
            ("{{ [[], {'k': none}] | tojson(indent=1) }}", "[\n [],\n {\n  \"k\": null\n }\n]"),
            ("{{ strftime_now('%d %b %Y, %A %H:%M %-d %%') }}", "07 Mar 2025, Friday 08:05 7 %"),
            ("{{ none }} {{ true }} {{ false }} {{ tools }} {{ documents }}", "None True False None None"),
            ("{{ bos_token }}{{ eos_token }}{{ unk_token }}", "<s></s>"),
            ("{{ 'a' ~ true ~ none ~ tools }}", "aTrueNoneNone"),
            ("{% if true %}\nx\n{% endif %}\n", "x\n"),
            ("a\n   {% generation %}\nb{%- endgeneration -%}  c", "a\nbc"),
            ("{% generation", "{% generation"),
        ];
        for (source, expected) in &cases[..cases.len() - 1] {
            assert_eq!(render(source).as_deref(), Ok(*expected), "{source}");
        }
        let (unclosed, kept) = cases[cases.len() - 1];
        assert_eq!(without_generation_marks(unclosed), kept);
    }

    /// Python fails at it.
    #[test]
    fn what_differs_from_python_is_known() {
        assert_eq!(render("{% for x in none %}x{% endfor %}|").as_deref(), Ok("|"));
    }

    #[test]
    fn broken_templates_are_refused() {
        for source in ["{% for %}", "{{ unclosed", "{% endif %}", "{{ 1 | no_such_filter }}", &"(".repeat(100_000)] {
            let source = if source.starts_with('(') { format!("{{{{ {source}") } else { source.to_owned() };
            let made = ChatTemplate::new(&source, SpecialTokens::default());
            let code = made.and_then(|template| {
                template.render(&[], false).map_err(|error| LoadError::ChatTemplate { message: error.to_string() })
            });
            assert_eq!(code.expect_err(&source[..10.min(source.len())]).code(), "broken_chat_template");
        }
    }

    #[test]
    fn templates_fail_with_a_reason() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        let cases = [
            ("{{ raise_exception('No! Use \"user\".') }}", "No! Use \"user\"."),
            ("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}", "deep"),
            ("{{ messages.nothing.at_all }}", "undefined value"),
            ("{{ strftime_now('%Q') }}", "cannot read the format `%Q`"),
            ("{{ 1 | tojson(indent=1000000) }}", "cannot indent by 1000000"),
            ("{{ 1 | tojson(sort_keys=true) }}", "sort_keys"),
            (endless, "out of fuel"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
            ("{{ 'x' * 100000000000 }}", "too large"),
            ("{{ range(100000000000) | list }}", "range"),
            ("{% include 'chat_template' %}", "recursion"),
            ("{% include '/etc/passwd' %}", "template not found"),
        ];
        for (source, part) in cases {
            match render(source) {
                Err(RequestError::Template { message }) => assert!(message.contains(part), "{source}: {message}"),
                other => panic!("{source}: {other:?}"),
            }
        }
    }

    #[test]
    fn one_template_serves_many_threads() {
        let template = template("{{ messages[0].content }}");
        std::thread::scope(|scope| {
            let render = |n: usize| template.render(&[Message::user(n.to_string())], true);
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || (n, render(n)))).collect();
            for thread in threads {
                let (n, rendered) = thread.join().unwrap();
                assert_eq!(rendered, Ok(n.to_string()));
            }
        });
        assert!(format!("{template:?}").starts_with("ChatTemplate { tokens"));
    }
}
