//! `[[image]]`, `[images]`, `[[list]]` and `[defaults]`: which images are mirrored, and which parts of
//! them.
//!
//! The three forms of images become a [`Draft`] each, and entries from there on.

use std::{collections::HashSet, fmt, slice, sync::Arc};

use super::{
    context::{FileContext, ReadDestination, ReadEntry, Tables},
    destination::by_name,
    document::{Keys, ReadTables, Table, Text, Value},
    images::{Entry, OnConflict, Tags, WrittenAt},
    list,
    naming::NamingRule,
    problem::{Problem, Span},
    retag::Retag,
    select, spelling,
    via::{self, Routes},
    wildcard::ImageSource,
};
use crate::model::{
    Archived, Attestations, Delivery, DestinationId, Digest, Filter, ForeignLayers,
    MissingPlatform, NameError, Platforms, Reference, Shape, Signatures, Tag, select::Selection,
};

const DEFAULTS: Keys = Keys {
    title: "`[defaults]`",
    names: "platforms missing_platform attestations signatures foreign_layers flatten via archived \
        repository retag destinations on_conflict",
};

pub(super) const KEYS: Keys = Keys {
    title: "`[[image]]`",
    names: "source tags select tag repository retag name destinations platforms \
        missing_platform attestations signatures foreign_layers flatten via archived on_conflict \
        exclude_repositories at_most",
};

/// The keys of `[[image]]` without `source`, and those of `select`.
const SHORTHAND: Keys = Keys {
    title: "an image of `[images]`",
    names: "tags glob regex semver pre_releases exclude exclude_regex newest by min_age max_age at_least \
        repository retag name destinations platforms missing_platform attestations signatures \
        foreign_layers flatten via archived on_conflict exclude_repositories at_most",
};

const MISSING: [(&str, MissingPlatform); 2] =
    [("fail", MissingPlatform::Fail), ("warn", MissingPlatform::Warn)];

const ATTESTATIONS: [(&str, Attestations); 2] =
    [("keep", Attestations::Keep), ("drop", Attestations::Drop)];

const ARCHIVED: [(&str, Archived); 2] =
    [("leave", Archived::Leave), ("restore", Archived::Restore)];

const FOREIGN_LAYERS: [(&str, ForeignLayers); 2] =
    [("skip", ForeignLayers::Skip), ("copy", ForeignLayers::Copy)];

const VIA: [(&str, Delivery); 3] = [
    ("mirror", Delivery::Mirror),
    ("pull-through", Delivery::PullThrough),
    ("auto", Delivery::Auto),
];

const WITHOUT_EFFECT: &str = "has no effect on images that come through the pull-through cache";

const ON_CONFLICT: [(&str, OnConflict); 2] =
    [("fail", OnConflict::Fail), ("first", OnConflict::First)];

/// The place of a key. The most specific one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Defaults,
    Destination,
    Registry,
    List,
    Entry,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Defaults => "`[defaults]`",
            Self::Destination => "`[[destination]]`",
            Self::Registry => "`[registry.\"…\"]`",
            Self::List => "`[[list]]`",
            Self::Entry => "the image",
        })
    }
}

/// A value, and where it is written.
#[derive(Clone)]
pub(super) struct Setting<T> {
    pub(super) value: T,
    pub(super) span: Span,
    pub(super) level: Level,
}

impl<T> Setting<T> {
    /// The value of a key, if it is written.
    fn read(
        table: &Table<'_>,
        level: Level,
        key: &str,
        value: Result<Option<T>, Problem>,
    ) -> Result<Option<Self>, Problem> {
        let setting = |(value, span)| Self { value, span, level };
        Ok(value?.zip(table.span_of(key)).map(setting))
    }

    /// A problem of the value for this source: at the value, if the source has it to itself.
    /// `subject` is the subject of the problem's sentence.
    pub(super) fn problem_of(&self, subject: &str, source: &Span, error: NameError) -> Problem {
        match self.level {
            Level::Entry => Problem::invalid_name(&self.span, error),
            level => {
                let label = format!("{subject} of {level} {}", error.problem);
                let problem = Problem::at(source, label);
                error.hint.into_iter().fold(problem, Problem::hint)
            }
        }
    }
}

/// The keys that `[[image]]` shares with other tables; `None` for a key that is not written.
#[derive(Clone, Default)]
pub(super) struct ImageKeys {
    platforms: Option<Setting<Platforms>>,
    missing: Option<Setting<MissingPlatform>>,
    attestations: Option<Setting<Attestations>>,
    signatures: Option<Setting<Signatures>>,
    foreign_layers: Option<Setting<ForeignLayers>>,
    pub(super) flatten: Option<Setting<bool>>,
    pub(super) via: Option<Setting<Delivery>>,
    archived: Option<Setting<Archived>>,
    pub(super) repository: Option<Setting<NamingRule>>,
    pub(super) retag: Option<Setting<Retag>>,
    pub(super) destinations: Option<Setting<Vec<DestinationId>>>,
    on_conflict: Option<Setting<OnConflict>>,
}

impl ImageKeys {
    fn or(self, general: &Self) -> Self {
        Self {
            platforms: self.platforms.or_else(|| general.platforms.clone()),
            missing: self.missing.or_else(|| general.missing.clone()),
            attestations: self.attestations.or_else(|| general.attestations.clone()),
            signatures: self.signatures.or_else(|| general.signatures.clone()),
            foreign_layers: self.foreign_layers.or_else(|| general.foreign_layers.clone()),
            flatten: self.flatten.or_else(|| general.flatten.clone()),
            via: self.via.or_else(|| general.via.clone()),
            archived: self.archived.or_else(|| general.archived.clone()),
            repository: self.repository.or_else(|| general.repository.clone()),
            retag: self.retag.or_else(|| general.retag.clone()),
            destinations: self.destinations.or_else(|| general.destinations.clone()),
            on_conflict: self.on_conflict.or_else(|| general.on_conflict.clone()),
        }
    }

    /// The keys that change a mirrored image and are written for these images: a cache does not
    /// apply them.
    pub(super) fn of_mirrored(&self) -> Option<(&'static str, &Span)> {
        fn own<'s, T>(
            key: &'static str,
            setting: &'s Option<Setting<T>>,
        ) -> Option<(&'static str, &'s Span)> {
            let setting = setting.as_ref().filter(|setting| setting.level >= Level::List)?;
            Some((key, &setting.span))
        }
        own("repository", &self.repository)
            .or_else(|| own("retag", &self.retag))
            .or_else(|| own("flatten", &self.flatten))
    }
}

/// Reads `[defaults]`.
pub(super) fn defaults(
    root: &Table<'_>,
    destinations: &ReadTables<ReadDestination>,
) -> Result<ImageKeys, Problem> {
    let table = root.table("defaults", &DEFAULTS)?;
    let read = |table| image_keys(&table, Level::Defaults, destinations);
    table.map_or_else(|| Ok(ImageKeys::default()), read)
}

/// The keys of `[registry."…"]` that apply to the images of this registry.
pub(super) fn registry_keys(
    table: &Table<'_>,
    destinations: &ReadTables<ReadDestination>,
) -> Result<ImageKeys, Problem> {
    Ok(ImageKeys {
        repository: naming_rule(table, Level::Registry)?,
        retag: Setting::read(table, Level::Registry, "retag", Retag::read(table))?,
        destinations: named_destinations(table, Level::Registry, destinations)?,
        on_conflict: on_conflict(table, Level::Registry)?,
        ..ImageKeys::default()
    })
}

pub(super) fn image_keys(
    table: &Table<'_>,
    level: Level,
    destinations: &ReadTables<ReadDestination>,
) -> Result<ImageKeys, Problem> {
    let missing = table.choice("missing_platform", &MISSING);
    let attestations = table.choice("attestations", &ATTESTATIONS);
    let foreign = table.choice("foreign_layers", &FOREIGN_LAYERS);
    let archived = table.choice("archived", &ARCHIVED);
    Ok(ImageKeys {
        destinations: named_destinations(table, level, destinations)?,
        platforms: Setting::read(table, level, "platforms", platforms(table))?,
        missing: Setting::read(table, level, "missing_platform", missing)?,
        attestations: Setting::read(table, level, "attestations", attestations)?,
        signatures: Setting::read(table, level, "signatures", signature_types(table))?,
        foreign_layers: Setting::read(table, level, "foreign_layers", foreign)?,
        flatten: Setting::read(table, level, "flatten", table.switch("flatten"))?,
        via: Setting::read(table, level, "via", table.choice("via", &VIA))?,
        archived: Setting::read(table, level, "archived", archived)?,
        repository: naming_rule(table, level)?,
        retag: Setting::read(table, level, "retag", Retag::read(table))?,
        on_conflict: on_conflict(table, level)?,
    })
}

pub(super) fn naming_rule(
    table: &Table<'_>,
    level: Level,
) -> Result<Option<Setting<NamingRule>>, Problem> {
    Setting::read(table, level, "repository", table.parsed("repository"))
}

fn named_destinations(
    table: &Table<'_>,
    level: Level,
    destinations: &ReadTables<ReadDestination>,
) -> Result<Option<Setting<Vec<DestinationId>>>, Problem> {
    let names = table.list("destinations")?;
    let ids = names.map(|names| by_name(&names, destinations)).transpose();
    Setting::read(table, level, "destinations", ids)
}

fn on_conflict(table: &Table<'_>, level: Level) -> Result<Option<Setting<OnConflict>>, Problem> {
    Setting::read(table, level, "on_conflict", table.choice("on_conflict", &ON_CONFLICT))
}

fn signature_types(table: &Table<'_>) -> Result<Option<Signatures>, Problem> {
    if !table.is_string("signatures") {
        let types = table.list("signatures")?;
        let types = types.map(|types| types.iter().map(|text| text.to_string()).collect());
        return Ok(types.map(Signatures::Only));
    }
    let all = table.choice("signatures", &[("none", false), ("all", true)])?;
    Ok(all.map(|all| if all { Signatures::All } else { Signatures::None }))
}

fn platforms(table: &Table<'_>) -> Result<Option<Platforms>, Problem> {
    if table.is_string("platforms") {
        let text = table.text("platforms")?.filter(|text| &**text != "all");
        return text.map_or(Ok(Some(Platforms::All)), |text| {
            Err(Problem::at(&text.span, "must be `\"all\"` or a list")
                .hint("write a list, like `platforms = [\"linux/amd64\", \"linux/arm64\"]`"))
        });
    }
    Ok(Platforms::only(spelling::platforms(table, "platforms")?))
}

/// Images, before the keys of more general tables apply.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) source: Text,
    pub(super) name: Option<String>,
    pub(super) tags: Vec<DraftTag>,
    pub(super) selection: Option<Selection>,
    pub(super) keys: ImageKeys,
}

/// A tag, its digest if it is pinned, and where it is written.
#[derive(Clone)]
pub(super) struct DraftTag {
    pub(super) tag: Tag,
    pub(super) digest: Option<Digest>,
    pub(super) span: Span,
}

/// Reads an `[[image]]`.
pub(super) fn read(table: &Table<'_>, tables: &Tables<'_>) -> Result<Vec<ReadEntry>, Problem> {
    let name = table.word("name")?.map(|name| name.to_string());
    let selection = select::read(table)?;
    let keys = image_keys(table, Level::Entry, tables.destinations)?;
    let listed = exact(&table.list("tags")?.unwrap_or_default(), tables.file)?;
    // last, so that the mistakes of the other keys are found without it
    let hint = "add the repository to mirror, like `source = \"nginx\"`";
    let source = table.text("source")?.ok_or_else(|| table.missing("source", hint))?;
    let image = ImageSource::read(&source, Some(table))?;
    let tags = match &image {
        ImageSource::One(reference) => tags(table, &source, reference, listed)?,
        ImageSource::Matching(_) => match table.text("tag")? {
            Some(tag) => return Err(unpinned(&tag)),
            None => listed,
        },
    };
    let draft = Draft { name, selection, keys, tags, source };
    if draft.tags.is_empty() && draft.selection.is_none() {
        return Err(Problem::needing(&draft.source.span, "has no `tags`, `select` or digest")
            .hint("add `tags = [\"latest\"]` for the tag that Docker pulls, other tags, or `select = { newest = 3 }`"));
    }
    all_entries(draft, image, tables)
}

/// Reads `[images]`, and appends the mistakes in it to `problems`.
pub(super) fn read_images(
    root: &Table<'_>,
    tables: &Tables<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Vec<ReadEntry>> {
    let images = match root.entries("images", "a table") {
        Ok(images) => images,
        Err(problem) => {
            let hint = "write `[images]`, and a line `repository = \"tag\"` for each repository";
            problems.push(problem.hint(hint));
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (key, value) in images {
        if key.get_ref().ends_with('/') {
            match root.key(key) {
                Ok(prefix) => {
                    entries.extend(list::read_below(root, &prefix, value, tables, problems));
                }
                Err(problem) => problems.push(problem),
            }
            continue;
        }
        let read = || read_short(root, &root.key(key)?, value, tables);
        entries.extend(tables.file.attempt_value(key.get_ref(), value.get_ref(), problems, read));
    }
    entries
}

/// Reads an image of `[images]`: a tag, tags, or a table with the keys of `[[image]]` and `select`.
fn read_short<'a>(
    images: &Table<'a>,
    source: &Text,
    value: &'a Value<'a>,
    tables: &Tables<'_>,
) -> Result<Vec<ReadEntry>, Problem> {
    let (is_tag, is_list) = (value.get_ref().is_str(), value.get_ref().is_array());
    let table = match is_tag || is_list {
        true => None,
        false => Some(images.open_value(value, &SHORTHAND).map_err(|problem| {
            match value.get_ref().is_table() {
                true => problem,
                false => {
                    problem.hint("write a tag, a list of tags or a table, like `nginx = \"1.27\"`")
                }
            }
        })?),
    };
    let image = ImageSource::read(source, table.as_ref())?;
    if let ImageSource::One(reference) = &image
        && (reference.tag.is_some() || reference.digest.is_some())
    {
        let hint =
            "write the tag as the value, like `nginx = \"1.27\"` or `nginx = \"1.27@sha256:…\"`";
        return Err(Problem::at(&source.span, "must be a repository without a tag").hint(hint));
    }
    let mut draft = Draft {
        source: source.clone(),
        name: None,
        tags: Vec::new(),
        selection: None,
        keys: ImageKeys::default(),
    };
    let Some(table) = table else {
        draft.tags = match is_tag {
            true => vec![draft_tag(&images.string(value)?)?],
            false => exact(&images.strings("tags", value)?.unwrap_or_default(), tables.file)?,
        };
        return all_entries(draft, image, tables);
    };
    draft.name = table.word("name")?.map(|name| name.to_string());
    draft.selection = select::read_short(&table)?;
    let texts = match table.is_string("tags") {
        true => table.text("tags")?.map(|text| vec![text]),
        false => table.list("tags")?,
    };
    draft.tags = exact(&texts.unwrap_or_default(), tables.file)?;
    draft.keys = image_keys(&table, Level::Entry, tables.destinations)?;
    if draft.tags.is_empty() && draft.selection.is_none() {
        draft.tags = vec![latest(source.span.clone())];
    }
    all_entries(draft, image, tables)
}

/// The entries of a draft for its repository, or for each known repository that matches.
fn all_entries(
    draft: Draft,
    image: ImageSource,
    tables: &Tables<'_>,
) -> Result<Vec<ReadEntry>, Problem> {
    let mut wildcard = match image {
        ImageSource::One(reference) => return entries(draft, reference, tables),
        ImageSource::Matching(wildcard) => wildcard,
    };
    let host = wildcard.host.clone();
    tables.file.listed_hosts.borrow_mut().insert(host.clone());
    let read = |repository| {
        let reference = Reference { host: host.clone(), repository, tag: None, digest: None };
        entries(draft.clone(), reference, tables)
    };
    let listed = tables.file.listed;
    let known = wildcard.repositories(&draft.source, listed)?;
    let all: Result<Vec<_>, _> = known.into_iter().map(read).collect();
    let all = all?.into_iter().flatten().collect();
    if !wildcard.is_listed(listed) {
        // a mistake in them is one of a repository that may not exist
        let samples = wildcard.sample_repositories().filter_map(|repository| read(repository).ok());
        let samples = samples.flatten().map(|read| read.entry).collect();
        wildcard.samples = samples;
        tables.file.wildcards.borrow_mut().push(wildcard);
    }
    Ok(all)
}

/// The tag that Docker pulls if none is written.
pub(super) fn latest(span: Span) -> DraftTag {
    let tag = "latest".parse().expect("`latest` is a tag");
    DraftTag { tag, digest: None, span }
}

/// The entries of a draft for this repository: one for its exact tags, one for each pinned tag, one for its selection.
pub(super) fn entries(
    draft: Draft,
    reference: Reference,
    tables: &Tables<'_>,
) -> Result<Vec<ReadEntry>, Problem> {
    let Draft { source, name, tags, selection, keys } = draft;
    if let Some(warning) = spelling::ecr_host(&reference.host, &source.span) {
        tables.file.warn(warning);
    }
    let keys = match tables.registries.get(&reference.host) {
        Some(registry) => keys.or(registry),
        None => keys,
    };
    let keys = keys.or(tables.defaults);
    let routes = via::read(&source, &reference, &keys, tables)?;
    warn_of_cached(&keys, &routes, tables.file);
    let shape = match routes.mirrored.is_empty() {
        // ECR caches an image unchanged
        true => Shape::Index,
        false => shape(&keys, &source)?,
    };
    let (pinned, exact) = tags.into_iter().partition::<Vec<_>, _>(|it| it.digest.is_some());
    let mut groups: Vec<(Tags, Vec<Span>)> = Vec::new();
    if !exact.is_empty() {
        let (tags, spans) = exact.into_iter().map(|it| (it.tag, it.span)).unzip();
        groups.push((Tags::Exact(tags), spans));
    }
    for DraftTag { tag, digest, span } in pinned {
        groups.extend(digest.map(|digest| (Tags::Pinned { digest, tag }, vec![span])));
    }
    groups.extend(selection.map(|selection| (Tags::Selected(selection), Vec::new())));
    for (tags, spans) in &groups {
        check_retag(&keys, tags, spans, &source)?;
    }
    let filter = Arc::new(Filter {
        platforms: value(keys.platforms),
        missing: value(keys.missing),
        attestations: value(keys.attestations),
        signatures: value(keys.signatures),
        foreign_layers: value(keys.foreign_layers),
        shape,
        archived: value(keys.archived),
    });
    let name: Arc<str> = name.map_or_else(|| reference.repository.as_str().into(), Arc::from);
    let retag_span = keys.retag.as_ref().map(|retag| retag.span.clone());
    let retag = value(keys.retag);
    let on_conflict = value(keys.on_conflict);
    let entry = |(tags, spans)| ReadEntry {
        entry: Entry {
            name: name.clone(),
            host: reference.host.clone(),
            repository: reference.repository.clone(),
            tags,
            mirrored: routes.mirrored.clone(),
            cached: routes.cached.clone(),
            retag: retag.clone(),
            filter: Arc::clone(&filter),
            on_conflict,
            written: WrittenAt::default(),
        },
        source: source.span.clone(),
        source_as_written: source.as_written().map(str::to_owned),
        rules: routes.rules.clone(),
        retag: retag_span.clone(),
        tags: spans,
    };
    Ok(groups.into_iter().map(entry).collect())
}

fn value<T: Default>(setting: Option<Setting<T>>) -> T {
    setting.map(|setting| setting.value).unwrap_or_default()
}

/// Warns of keys that ECR's cache does not apply.
fn warn_of_cached(keys: &ImageKeys, routes: &Routes, file: &FileContext<'_>) {
    if let (Some(Setting { value: Signatures::All | Signatures::Only(_), span, .. }), false) =
        (&keys.signatures, routes.cached.is_empty())
    {
        file.warn(Problem::at(span, WITHOUT_EFFECT).hint(
            "write `signatures = \"none\"` for them, or `via = \"mirror\"`: ECR fetches signatures when a client asks for them",
        ));
    }
    if !routes.mirrored.is_empty() {
        return;
    }
    let archived = keys.archived.as_ref().filter(|it| it.value == Archived::Restore);
    let foreign = keys.foreign_layers.as_ref().filter(|it| it.value == ForeignLayers::Copy);
    let archived = archived.map(|it| (&it.span, "`archived = \"leave\"`"));
    let foreign = foreign.map(|it| (&it.span, "`foreign_layers = \"skip\"`"));
    for (span, usual) in archived.into_iter().chain(foreign) {
        let hint = format!("write {usual} for them, or `via = \"mirror\"`");
        file.warn(Problem::at(span, WITHOUT_EFFECT).hint(hint));
    }
}

/// The exact and pinned tags of an `[[image]]`.
fn tags(
    table: &Table<'_>,
    source: &Text,
    reference: &Reference,
    listed: Vec<DraftTag>,
) -> Result<Vec<DraftTag>, Problem> {
    if let Some(digest) = &reference.digest {
        for key in ["tags", "select"] {
            if let Some(span) = table.span_of(key) {
                let label = format!("`{key}` cannot be combined with a digest in `source`");
                return Err(Problem::at(&span, label)
                    .hint("remove the digest, or write `tag = \"…\"` instead"));
            }
        }
        let (tag, span) = match (table.text("tag")?, &reference.tag) {
            (Some(tag), _) => (tag.parse()?, tag.span),
            (None, Some(own)) => (own.clone(), source.span.clone()),
            (None, None) => {
                return Err(Problem::needing(
                    &source.span,
                    "a source with a digest requires `tag`",
                )
                .hint("add the tag for the destination, like `tag = \"3.20-pinned\"`"));
            }
        };
        return Ok(vec![DraftTag { tag, digest: Some(digest.clone()), span }]);
    }
    if let Some(tag) = table.text("tag")? {
        return Err(unpinned(&tag));
    }
    if let Some(tag) = &reference.tag {
        let problem = Problem::at(&source.span, "`source` must not contain a tag");
        return Err(match source.as_written().and_then(|text| text.strip_suffix(tag.as_str())) {
            Some(name) => problem.hint(format!(
                "write `source = \"{}\"` and `tags = [\"{tag}\"]`",
                name.trim_end_matches(':')
            )),
            None => problem.hint("move the tag to `tags`"),
        });
    }
    Ok(listed)
}

/// The problem of a `tag` without a digest.
fn unpinned(tag: &Text) -> Problem {
    Problem::needing(&tag.span, "`tag` requires a digest in `source`")
        .hint("write `tags = [\"…\"]`")
}

/// Tags, each once. A tag may be in the same list of two files, but not twice in one.
fn exact(texts: &[Text], file: &FileContext<'_>) -> Result<Vec<DraftTag>, Problem> {
    let mut tags: Vec<DraftTag> = Vec::new();
    let mut seen: HashSet<(Tag, Option<Digest>)> = HashSet::new();
    for text in texts {
        let tag = draft_tag(text)?;
        if seen.insert((tag.tag.clone(), tag.digest.clone())) {
            tags.push(tag);
        } else if file.sources.is_one_file(texts.iter().map(|text| &text.span)) {
            return Err(Problem::duplicate(&text.span, "tag"));
        }
    }
    Ok(tags)
}

/// A tag, or `TAG@DIGEST`.
fn draft_tag(text: &Text) -> Result<DraftTag, Problem> {
    let (tag, digest) = match text.split_once('@') {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (&**text, None),
    };
    let digest = digest.map(str::parse).transpose().map_err(|error| text.problem(error))?;
    let tag = tag.parse().map_err(|error| text.problem(error))?;
    Ok(DraftTag { tag, digest, span: text.span.clone() })
}

/// Applies `retag` to every known tag, so that it cannot fail for them later.
fn check_retag(
    keys: &ImageKeys,
    tags: &Tags,
    spans: &[Span],
    source: &Text,
) -> Result<(), Problem> {
    let Some(retag) = &keys.retag else { return Ok(()) };
    // the result is a tag for every digest or for none
    let any = Digest::of(b"");
    let short: Tag = "0".parse().expect("a digit is a tag");
    let known = match tags {
        Tags::Exact(tags) => tags,
        Tags::Pinned { tag, .. } => slice::from_ref(tag),
        Tags::Selected(_) => slice::from_ref(&short),
    };
    for (index, tag) in known.iter().enumerate() {
        if let Err(error) = retag.value.apply(tag, Some(&any)) {
            let span = spans.get(index).unwrap_or(&source.span);
            return Err(retag.problem_of("`retag`", span, error));
        }
    }
    Ok(())
}

fn shape(keys: &ImageKeys, source: &Text) -> Result<Shape, Problem> {
    let Some(flatten) = keys.flatten.as_ref().filter(|flatten| flatten.value) else {
        return Ok(Shape::Index);
    };
    let platforms = keys.platforms.as_ref().map(|platforms| &platforms.value);
    let count = match platforms {
        Some(Platforms::Only(platforms)) if platforms.len() == 1 => return Ok(Shape::Flat),
        Some(Platforms::Only(platforms)) => platforms.len().to_string(),
        Some(Platforms::All) | None => "all".to_owned(),
    };
    let (span, origin) = match flatten.level {
        Level::Entry => (&flatten.span, String::new()),
        level => (&source.span, format!(" of {level}")),
    };
    let label = format!("`flatten`{origin} requires exactly one platform, this image has {count}");
    Err(Problem::at(span, label)
        .hint("write one platform, like `platforms = [\"linux/amd64\"]`, or `flatten = false`"))
}
