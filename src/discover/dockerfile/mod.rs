//! Reads Dockerfiles as BuildKit does.
//!
//! Source: Dockerfile reference; `docs/reference/buildx_build.md` of buildx for `--build-arg` and
//! `--target`.

mod lines;

use std::collections::{BTreeMap, BTreeSet};

use self::lines::{Instruction, Lines, Word};
use super::{
    FileReader, FoundText, Resolution, build_platform,
    detect::TEMPLATE,
    forms::UseKind,
    variables::{Expansion, ExpansionRules, expand},
};
use crate::model::{Platform, Reference};

const NO_EXPANSION: &str =
    "BuildKit expands no variable here; write `FROM … AS name`, and the name";

pub(super) fn read(reader: &mut FileReader<'_>) {
    let lines = match lines::split(reader.text) {
        Ok(lines) => lines,
        Err((at, problem)) => {
            let line = reader.line(at);
            return reader.unreadable(line, problem);
        }
    };
    let stages = stages(&lines);
    if reader.is_guess && stages.is_empty() {
        return;
    }
    add_syntax(reader, &lines);
    if let Some((at, problem)) = mistake(reader, &lines).filter(|_| !reader.is_guess) {
        reader.unreadable(reader.line(at), problem);
    }
    let reached = reached(reader, &lines, &stages);
    let platforms = match &reader.options.platforms[..] {
        [] => vec![build_platform()],
        platforms => platforms.to_vec(),
    };
    let count = platforms.len();
    // one place can have another image for each platform
    let mut places: BTreeMap<usize, Vec<(Platform, FoundText)>> = BTreeMap::new();
    for platform in platforms {
        let file = Dockerfile::new(reader, &lines, &platform);
        for text in file.texts(reader, &stages, &reached) {
            places.entry(text.start).or_default().push((platform.clone(), text));
        }
    }
    for texts in places.into_values() {
        let is_same = texts.len() == count
            && texts.windows(2).all(|pair| {
                pair[0].1.expansion.text() == pair[1].1.expansion.text()
                    && pair[0].1.platform == pair[1].1.platform
            });
        for (platform, mut text) in texts {
            if !is_same && text.platform.is_none() {
                text.platform = Some(platform);
            }
            add(reader, text);
        }
    }
}

fn add(reader: &mut FileReader<'_>, text: FoundText) {
    let is_fixed = !matches!(text.kind, UseKind::From | UseKind::Syntax);
    if is_fixed && text.expansion.text().contains('$') {
        return reader.add_as(text, Resolution::Invalid(NO_EXPANSION.to_owned()));
    }
    reader.add(text);
}

/// Source: Dockerfile reference, "Overview".
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The first instruction that stops every build: its place and the problem. Another frontend may have
/// other instructions.
fn mistake(reader: &FileReader<'_>, lines: &Lines) -> Option<(usize, String)> {
    let argument = reader.options.build_args.get("BUILDKIT_SYNTAX");
    let frontend = argument.or(lines.syntax.as_ref().map(|(image, _)| image));
    let is_dockerfile = |image: &String| {
        let image = image.parse::<Reference>();
        let name = image.as_ref().ok().and_then(|it| it.repository.as_str().rsplit('/').next());
        name.is_none_or(|name| matches!(name, "dockerfile" | "dockerfile-upstream"))
    };
    let is_other = !frontend.is_none_or(is_dockerfile);
    let mut has_stage = false;
    for instruction in &lines.instructions {
        let words = instruction.words(lines.escape);
        let Some((verb, rest)) = words.split_first() else { continue };
        let name = verb.text.to_ascii_uppercase();
        let rest = flags(rest).1;
        let problem = match (name.as_str(), rest) {
            ("FROM", _) if base_and_name(rest).is_some() => {
                has_stage = true;
                continue;
            }
            _ if is_other && name != "FROM" => continue,
            ("FROM", []) => {
                "`FROM` names no image: write `FROM IMAGE`, or `FROM scratch`".to_owned()
            }
            ("FROM", _) if rest.iter().any(is_template) => TEMPLATE.to_owned(),
            ("FROM", _) => "`FROM` has other words than `IMAGE [AS NAME]`".to_owned(),
            (name, _) if !INSTRUCTIONS.contains(&name) && is_template(verb) => TEMPLATE.to_owned(),
            (name, _) if !INSTRUCTIONS.contains(&name) => {
                format!("`{}` is not an instruction of a Dockerfile", verb.text)
            }
            ("ARG", _) => continue,
            _ if has_stage => continue,
            (name, _) => format!("`{name}` stands before the first `FROM`"),
        };
        return Some((verb.start, problem));
    }
    (!has_stage && !is_other).then(|| (0, "the Dockerfile has no `FROM`".to_owned()))
}

/// The image of a FROM, and the name of its stage. `None` if BuildKit refuses these words.
fn base_and_name<'a>(words: &[Word<'a>]) -> Option<(Word<'a>, Option<&'a str>)> {
    let (base, name) = match words {
        [base] => (base, None),
        [base, by, name] if by.text.eq_ignore_ascii_case("AS") => (base, Some(name.text)),
        _ => return None,
    };
    (!is_template(base)).then_some((*base, name))
}

/// Returns `true` for a word of Go's templates, or of Jinja's.
fn is_template(word: &Word<'_>) -> bool {
    word.text.contains("{{") || word.text.contains("{%")
}

/// Adds the image of `# syntax=`. The build argument `BUILDKIT_SYNTAX` replaces it.
fn add_syntax(reader: &mut FileReader<'_>, lines: &Lines) {
    let argument = reader.options.build_args.get("BUILDKIT_SYNTAX");
    let (image, start) = match (argument, &lines.syntax) {
        (None, None) => return,
        (Some(image), written) => (image, written.as_ref().map_or(0, |(_, start)| *start)),
        (None, Some((image, start))) => (image, *start),
    };
    let (found, end) = match argument {
        Some(_) => ("BUILDKIT_SYNTAX", start),
        None => ("# syntax=", start + image.len()),
    };
    let text = FoundText::new(Expansion::literal(image), start, UseKind::Syntax, found);
    reader.add(FoundText { end, ..text });
}

/// A build stage: its FROM and the instructions up to the next one.
struct Stage<'a> {
    /// In lower case.
    name: Option<String>,
    /// `--platform`.
    platform: Option<&'a str>,
    base: Word<'a>,
    /// The range of its instructions.
    body: std::ops::Range<usize>,
}

fn stages(lines: &Lines) -> Vec<Stage<'_>> {
    let mut stages: Vec<Stage<'_>> = Vec::new();
    for (index, instruction) in lines.instructions.iter().enumerate() {
        if let Some(last) = stages.last_mut() {
            last.body.end = index + 1;
        }
        let words = instruction.words(lines.escape);
        if !words.first().is_some_and(|word| word.text.eq_ignore_ascii_case("FROM")) {
            continue;
        }
        if let Some(last) = stages.last_mut() {
            last.body.end = index;
        }
        let (flags, rest) = flags(&words[1..]);
        let Some((base, name)) = base_and_name(rest) else { continue };
        let platform = flags.iter().find_map(|flag| flag.text.strip_prefix("--platform="));
        let name = name.map(str::to_lowercase);
        let body = index + 1..index + 1;
        stages.push(Stage { name, platform, base, body });
    }
    stages
}

/// The flags before the first other word.
fn flags<'a, 'b>(words: &'b [Word<'a>]) -> (&'b [Word<'a>], &'b [Word<'a>]) {
    let is_flag = |word: &Word<'_>| word.text.starts_with("--") && word.text.len() > 2;
    let end = words.iter().position(|word| !is_flag(word)).unwrap_or(words.len());
    words.split_at(end)
}

/// The stage with this name or number.
fn stage_index(stages: &[Stage<'_>], name: &str) -> Option<usize> {
    match name.parse::<usize>() {
        Ok(index) => (index < stages.len()).then_some(index),
        Err(_) => named_stage(stages, name),
    }
}

fn named_stage(stages: &[Stage<'_>], name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    // the last one with a name has it
    stages.iter().rposition(|stage| stage.name.as_ref() == Some(&name))
}

/// The stages that the target needs; all without a target, or if the file does not have it.
fn reached(reader: &mut FileReader<'_>, lines: &Lines, stages: &[Stage<'_>]) -> BTreeSet<usize> {
    let target = reader.options.target.as_deref();
    let Some(target) = target.and_then(|target| stage_index(stages, target)) else {
        return (0..stages.len()).collect();
    };
    reader.found.has_target = true;
    let file = Dockerfile::new(reader, lines, &build_platform());
    let (mut reached, mut open) = (BTreeSet::new(), vec![target]);
    while let Some(index) = open.pop() {
        if !reached.insert(index) {
            continue;
        }
        let stage = &stages[index];
        let base = file.expand(stage.base.text).text();
        open.extend(named_stage(&stages[..index], &base));
        for instruction in &lines.instructions[stage.body.clone()] {
            let froms = froms(instruction, lines.escape).into_iter();
            open.extend(froms.filter_map(|from| stage_index(stages, &from.value)));
        }
    }
    reached
}

/// An image or a stage after `from=`.
struct FromFlag<'a> {
    kind: UseKind,
    is_trigger: bool,
    word: Word<'a>,
    /// Without quotes.
    value: String,
}

/// The images and stages that COPY and RUN read.
fn froms(instruction: &Instruction, escape: char) -> Vec<FromFlag<'_>> {
    if !instruction.text.contains("from=") && !instruction.text.contains("FROM=") {
        return Vec::new();
    }
    let words = instruction.words(escape);
    let is = |word: Option<&Word<'_>>, name: &str| {
        word.is_some_and(|word| word.text.eq_ignore_ascii_case(name))
    };
    let is_trigger = is(words.first(), "ONBUILD");
    let words = &words[usize::from(is_trigger)..];
    let Some((verb, rest)) = words.split_first() else { return Vec::new() };
    let flags = flags(rest).0.iter();
    match verb.text.to_ascii_uppercase().as_str() {
        "COPY" => flags
            .filter_map(|flag| {
                let value = flag.text.strip_prefix("--from=")?;
                let at = flag.at + flag.text.len() - value.len();
                let word = without_quotes(instruction, at, value);
                Some(FromFlag {
                    kind: UseKind::CopyFrom,
                    is_trigger,
                    word,
                    value: word.text.to_owned(),
                })
            })
            .collect(),
        "RUN" => flags
            .filter_map(|flag| {
                let value = flag.text.strip_prefix("--mount=")?;
                let base = flag.at + flag.text.len() - value.len();
                let mut at = 0;
                value.split(',').find_map(|field| {
                    let start = at;
                    at += field.len() + 1;
                    let bare = field.trim_start_matches(['"', '\'']);
                    let (key, image) = bare.split_once('=')?;
                    if !key.eq_ignore_ascii_case("from") {
                        return None;
                    }
                    // the quotes are around the field, or around the image
                    let is_quoted = bare.len() < field.len();
                    let end = |c| is_quoted && ['"', '\''].contains(&c);
                    let image = image.trim_end_matches(end);
                    let at = base + start + field.len() - bare.len() + key.len() + 1;
                    let word = without_quotes(instruction, at, image);
                    let value = word.text.to_owned();
                    Some(FromFlag { kind: UseKind::MountFrom, is_trigger, word, value })
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The text at this place of the instruction, without the quotes around it.
fn without_quotes<'a>(instruction: &'a Instruction, at: usize, text: &str) -> Word<'a> {
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner {
            return instruction.word(at + 1, at + 1 + inner.len());
        }
    }
    instruction.word(at, at + text.len())
}

/// A Dockerfile that is built for one platform.
struct Dockerfile<'a> {
    lines: &'a Lines,
    target: Platform,
    /// The variables that FROM can use.
    variables: BTreeMap<String, String>,
    /// The names of the ARG instructions before the first FROM.
    declared: BTreeSet<String>,
}

impl<'a> Dockerfile<'a> {
    fn new(reader: &FileReader<'_>, lines: &'a Lines, target: &Platform) -> Self {
        let mut variables = BTreeMap::new();
        for (prefix, platform) in [("TARGET", target), ("BUILD", &build_platform())] {
            let variant = platform.variant.clone().unwrap_or_default();
            variables.extend([
                (format!("{prefix}PLATFORM"), platform.to_string()),
                (format!("{prefix}OS"), platform.os.clone()),
                (format!("{prefix}ARCH"), platform.architecture.clone()),
                (format!("{prefix}VARIANT"), variant),
            ]);
        }
        let stage = reader.options.target.as_deref().unwrap_or("default");
        variables.insert("TARGETSTAGE".to_owned(), stage.to_owned());
        for (name, value) in &mut variables {
            if let Some(given) = reader.options.build_args.get(name) {
                value.clone_from(given);
            }
        }
        let declared = BTreeSet::new();
        let mut file = Self { lines, target: target.clone(), variables, declared };
        file.read_arguments(reader);
        file
    }

    /// Reads the ARG instructions before the first FROM.
    fn read_arguments(&mut self, reader: &FileReader<'_>) {
        for instruction in &self.lines.instructions {
            let words = instruction.words(self.lines.escape);
            let Some((verb, arguments)) = words.split_first() else { continue };
            if verb.text.eq_ignore_ascii_case("FROM") {
                return;
            }
            if !verb.text.eq_ignore_ascii_case("ARG") {
                continue;
            }
            for argument in arguments {
                let (name, default) = match argument.text.split_once('=') {
                    Some((name, default)) => (name, Some(default)),
                    None => (argument.text, None),
                };
                self.declared.insert(name.to_owned());
                let given = reader.options.build_args.get(name).cloned();
                let value = given.or_else(|| default.map(|default| self.expand(default).text()));
                if let Some(value) = value {
                    self.variables.insert(name.to_owned(), value);
                }
            }
        }
    }

    /// The text after expansion; a text that cannot be expanded stays as it is.
    fn expand(&self, text: &str) -> Expansion {
        self.try_expand(text).unwrap_or_else(|_| Expansion::literal(text))
    }

    fn try_expand(&self, text: &str) -> Result<Expansion, String> {
        let rules = ExpansionRules { escape: Some(self.lines.escape), has_double_dollar: false };
        expand(text, rules, &|name| self.variables.get(name).cloned())
    }

    /// The text of a FROM after expansion. No build argument sets a variable without an ARG.
    fn expand_base(&self, text: &str) -> Result<Expansion, String> {
        let expansion = self.try_expand(text)?;
        match expansion.missing.iter().find(|name| !self.declared.contains(*name)) {
            Some(name) => Err(format!("no `ARG {name}` stands before the first FROM")),
            None => Ok(expansion),
        }
    }

    /// The images of the stages, in file order.
    fn texts(
        &self,
        reader: &mut FileReader<'_>,
        stages: &[Stage<'_>],
        reached: &BTreeSet<usize>,
    ) -> Vec<FoundText> {
        let mut texts = Vec::new();
        for (index, stage) in stages.iter().enumerate().filter(|(index, _)| reached.contains(index))
        {
            match self.expand_base(stage.base.text) {
                Ok(expansion) if reader.options.contexts.contains(&expansion.text()) => {}
                Ok(expansion) => texts.extend(self.base(stages, index, expansion)),
                Err(problem) => {
                    let line = reader.line(stage.base.start);
                    let problem = format!("cannot expand `{}`: {problem}", stage.base.text);
                    if !reader.found.unreadable.iter().any(|known| known.line == line) {
                        reader.unreadable(line, problem);
                    }
                }
            }
            for instruction in &self.lines.instructions[stage.body.clone()] {
                for from in froms(instruction, self.lines.escape) {
                    let is_number = from.value.bytes().all(|byte| byte.is_ascii_digit());
                    let is_stage = named_stage(stages, &from.value).is_some();
                    let is_context = reader.options.contexts.contains(&from.value);
                    if is_number || is_stage || is_context || from.value == "scratch" {
                        continue;
                    }
                    let found = match (&from.kind, from.is_trigger) {
                        (UseKind::CopyFrom, false) => "COPY --from",
                        (UseKind::CopyFrom, true) => "ONBUILD COPY --from",
                        (_, false) => "RUN --mount from",
                        (_, true) => "ONBUILD RUN --mount from",
                    };
                    let expansion = Expansion::literal(&from.value);
                    let text = FoundText::new(expansion, from.word.start, from.kind, found);
                    texts.push(FoundText { end: from.word.end, ..text });
                }
            }
        }
        texts
    }

    /// The image of a FROM; `None` for a stage and for `scratch`.
    fn base(&self, stages: &[Stage<'_>], index: usize, expansion: Expansion) -> Option<FoundText> {
        let (stage, name) = (&stages[index], expansion.text());
        let is_stage = named_stage(&stages[..index], &name).is_some();
        if is_stage || name == "scratch" {
            return None;
        }
        let platform = stage.platform.map(|platform| self.expand(platform).text());
        let platform = platform.and_then(|name| {
            name.parse::<Platform>().or_else(|_| format!("linux/{name}").parse()).ok()
        });
        let text = FoundText::new(expansion, stage.base.start, UseKind::From, "FROM");
        Some(FoundText {
            end: stage.base.end,
            platform: platform.filter(|platform| *platform != self.target),
            missing_is_empty: true,
            ..text
        })
    }
}

/// Returns `true` if the first instruction is one that a Dockerfile begins with.
pub(super) fn is_dockerfile(text: &str) -> bool {
    let Ok(lines) = lines::split(text) else { return false };
    let Some(first) = lines.instructions.first() else { return false };
    let words = first.words(lines.escape);
    let is = |name: &str| words.first().is_some_and(|word| word.text.eq_ignore_ascii_case(name));
    words.len() > 1 && (is("FROM") || is("ARG"))
}
