//! `[[image]]` and `[defaults]`: which images are mirrored, and which parts of them.

use std::slice;

use super::{
    context::{ReadEntry, Tables},
    document::{Keys, Table, Text},
    images::{Entry, Tags},
    problem::{Problem, Span},
    retag::Retag,
    select, spelling,
    via::{self, RouteKey},
};
use crate::model::{
    Archived, Attestations, Delivery, Digest, Filter, ForeignLayers, MissingPlatform, Platforms,
    Reference, Shape, Signatures, Tag,
};

const DEFAULTS: Keys = Keys {
    title: "`[defaults]`",
    names: "platforms missing_platform attestations signatures foreign_layers flatten via archived",
};

pub(super) const KEYS: Keys = Keys {
    title: "`[[image]]`",
    names: "source tags select tag repository retag name destinations platforms \
        missing_platform attestations signatures foreign_layers flatten via archived",
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

/// The keys that `[[image]]` and `[defaults]` share; `None` for a key that is not written.
#[derive(Default)]
pub(super) struct ImageKeys {
    platforms: Option<Platforms>,
    missing: Option<MissingPlatform>,
    attestations: Option<Attestations>,
    /// With the span of the value.
    signatures: Option<(Signatures, Span)>,
    /// With the span of the value, like `archived`.
    foreign_layers: Option<(ForeignLayers, Span)>,
    flatten: Option<bool>,
    via: Option<Delivery>,
    archived: Option<(Archived, Span)>,
}

impl ImageKeys {
    fn or(self, defaults: &Self) -> Self {
        Self {
            platforms: self.platforms.or_else(|| defaults.platforms.clone()),
            missing: self.missing.or(defaults.missing),
            attestations: self.attestations.or(defaults.attestations),
            signatures: self.signatures.or_else(|| defaults.signatures.clone()),
            foreign_layers: self.foreign_layers.or_else(|| defaults.foreign_layers.clone()),
            flatten: self.flatten.or(defaults.flatten),
            via: self.via.or(defaults.via),
            archived: self.archived.or_else(|| defaults.archived.clone()),
        }
    }
}

pub(super) fn defaults(root: &Table<'_>) -> Result<ImageKeys, Problem> {
    let table = root.table("defaults", &DEFAULTS)?;
    table.map_or_else(|| Ok(ImageKeys::default()), |table| image_keys(&table))
}

fn image_keys(table: &Table<'_>) -> Result<ImageKeys, Problem> {
    Ok(ImageKeys {
        platforms: platforms(table)?,
        missing: table.choice("missing_platform", &MISSING)?,
        attestations: table.choice("attestations", &ATTESTATIONS)?,
        signatures: signatures(table)?,
        foreign_layers: spanned_choice(table, "foreign_layers", &FOREIGN_LAYERS)?,
        flatten: table.switch("flatten")?,
        via: table.choice("via", &VIA)?,
        archived: spanned_choice(table, "archived", &ARCHIVED)?,
    })
}

fn spanned_choice<T: Copy>(
    table: &Table<'_>,
    key: &str,
    choices: &[(&str, T)],
) -> Result<Option<(T, Span)>, Problem> {
    Ok(table.choice(key, choices)?.zip(table.span_of(key)))
}

fn signatures(table: &Table<'_>) -> Result<Option<(Signatures, Span)>, Problem> {
    Ok(signature_types(table)?.zip(table.span_of("signatures")))
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

pub(super) fn read(
    table: &Table<'_>,
    defaults: &ImageKeys,
    tables: &Tables<'_>,
) -> Result<ReadEntry, Problem> {
    let hint = "add the repository to mirror, like `source = \"nginx\"`";
    let source = table.text("source")?.ok_or_else(|| table.missing("source", hint))?;
    let reference: Reference = source.parse()?;
    if let Some(warning) = spelling::ecr_host(&reference.host, &source.span) {
        table.warn(warning);
    }
    let (tags, tag_spans) = tags(table, &source, &reference)?;
    let keys = image_keys(table)?.or(defaults);
    let route = RouteKey {
        via: keys.via.unwrap_or_default(),
        span: table.span_of("via").unwrap_or_else(|| source.span.clone()),
    };
    let routes = via::read(table, &source, &reference, &route, tables)?;
    let signatures = keys.signatures.clone();
    if let (Some((Signatures::All | Signatures::Only(_), span)), false) =
        (&signatures, routes.cached.is_empty())
    {
        tables.file.warn(Problem::at(span, WITHOUT_EFFECT).hint(
            "write `signatures = \"none\"` for them, or `via = \"mirror\"`: ECR fetches signatures when a client asks for them",
        ));
    }
    if routes.mirrored.is_empty() {
        let restores = keys.archived.as_ref().filter(|(value, _)| *value == Archived::Restore);
        let copies = keys.foreign_layers.as_ref();
        let copies = copies.filter(|(value, _)| *value == ForeignLayers::Copy);
        for (span, usual) in restores
            .map(|(_, span)| (span, "`archived = \"leave\"`"))
            .into_iter()
            .chain(copies.map(|(_, span)| (span, "`foreign_layers = \"skip\"`")))
        {
            let hint = format!("write {usual} for them, or `via = \"mirror\"`");
            tables.file.warn(Problem::at(span, WITHOUT_EFFECT).hint(hint));
        }
    }
    let retag = retag(table, &tags)?;
    let name = table.word("name")?;
    let shape = match routes.mirrored.is_empty() {
        // ECR caches an image unchanged
        true => Shape::Index,
        false => shape(table, &keys, &source)?,
    };
    let entry = Entry {
        name: name.map_or_else(|| reference.repository.to_string(), |name| name.to_string()),
        host: reference.host,
        repository: reference.repository,
        tags,
        mirrored: routes.mirrored,
        cached: routes.cached,
        retag,
        filter: Filter {
            platforms: keys.platforms.unwrap_or_default(),
            missing: keys.missing.unwrap_or_default(),
            attestations: keys.attestations.unwrap_or_default(),
            signatures: signatures.map(|(signatures, _)| signatures).unwrap_or_default(),
            foreign_layers: keys.foreign_layers.map(|(value, _)| value).unwrap_or_default(),
            shape,
            archived: keys.archived.map(|(value, _)| value).unwrap_or_default(),
        },
    };
    let source_as_written = source.as_written().map(str::to_owned);
    Ok(ReadEntry { entry, source: source.span, source_as_written, tags: tag_spans })
}

/// The images of the entry: pinned by the source, listed one by one, or selected. With the span
/// of each image's tag; without spans if they are selected.
fn tags(
    table: &Table<'_>,
    source: &Text,
    reference: &Reference,
) -> Result<(Tags, Vec<Span>), Problem> {
    let (list, selection) = (table.list("tags")?, select::read(table)?);
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
                return Err(Problem::at(&source.span, "a source with a digest requires `tag`")
                    .hint("add the tag for the destination, like `tag = \"3.20-pinned\"`"));
            }
        };
        return Ok((Tags::Pinned { digest: digest.clone(), tag }, vec![span]));
    }
    if let Some(tag) = table.text("tag")? {
        return Err(Problem::at(&tag.span, "`tag` requires a digest in `source`")
            .hint("write `tags = [\"…\"]`"));
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
    match (list, selection) {
        (Some(_), Some(_)) => {
            let span = table.span_of("select").unwrap_or_else(|| source.span.clone());
            Err(Problem::at(&span, "`select` cannot be combined with `tags`")
                .hint("remove one of the two, or move it to a second `[[image]]`"))
        }
        (None, Some(selection)) => Ok((Tags::Selected(selection), Vec::new())),
        (Some(texts), None) => exact(texts),
        (None, None) => Err(Problem::at(&source.span, "has no `tags`, `select` or digest")
            .hint("add `tags = [\"latest\"]` for the tag that Docker pulls, other tags, or `select = { newest = 3 }`")),
    }
}

fn exact(texts: Vec<Text>) -> Result<(Tags, Vec<Span>), Problem> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in &texts {
        let tag = text.parse()?;
        if tags.contains(&tag) {
            return Err(Problem::duplicate(&text.span, "tag"));
        }
        tags.push(tag);
    }
    Ok((Tags::Exact(tags), texts.into_iter().map(|text| text.span).collect()))
}

/// Reads `retag` and applies it to every known tag, so that it cannot fail for them later.
fn retag(table: &Table<'_>, tags: &Tags) -> Result<Retag, Problem> {
    let Some(text) = table.text("retag")? else { return Ok(Retag::default()) };
    let retag: Retag = text.parse()?;
    // the result is a tag for every digest or for none
    let any = Digest::of(b"");
    let short: Tag = "0".parse().expect("a digit is a tag");
    let known = match tags {
        Tags::Exact(tags) => tags,
        Tags::Pinned { tag, .. } => slice::from_ref(tag),
        Tags::Selected(_) => slice::from_ref(&short),
    };
    let applied = known.iter().try_for_each(|tag| retag.apply(tag, Some(&any)).map(drop));
    applied.map_err(|error| text.problem(error))?;
    Ok(retag)
}

fn shape(table: &Table<'_>, keys: &ImageKeys, source: &Text) -> Result<Shape, Problem> {
    if keys.flatten != Some(true) {
        return Ok(Shape::Index);
    }
    let count = match &keys.platforms {
        Some(Platforms::Only(platforms)) if platforms.len() == 1 => return Ok(Shape::Flat),
        Some(Platforms::Only(platforms)) => platforms.len().to_string(),
        Some(Platforms::All) | None => "all".to_owned(),
    };
    let (span, origin) = match table.span_of("flatten") {
        Some(span) => (span, ""),
        None => (source.span.clone(), " of `[defaults]`"),
    };
    let label = format!("`flatten`{origin} requires exactly one platform, this image has {count}");
    Err(Problem::at(&span, label)
        .hint("write one platform, like `platforms = [\"linux/amd64\"]`, or `flatten = false`"))
}
