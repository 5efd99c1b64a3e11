//! `[[image]]` and `[defaults]`: what is mirrored, and which parts of it.

use super::{
    Entry, Retag, Tables, Tags,
    document::{Keys, Table, Text},
    problem::{Problem, Span},
    select,
    via::{self, RouteKey},
};
use crate::model::{
    Attestations, Delivery, Digest, Filter, MissingPlatform, Platforms, Reference, Shape,
    Signatures, Tag,
};

const DEFAULTS: Keys = Keys {
    title: "`[defaults]`",
    names: &["platforms", "missing_platform", "attestations", "signatures", "flatten", "via"],
};

pub(super) const KEYS: Keys = Keys {
    title: "`[[image]]`",
    names: &[
        "source",
        "tags",
        "select",
        "tag",
        "repository",
        "retag",
        "name",
        "destinations",
        "platforms",
        "missing_platform",
        "attestations",
        "signatures",
        "flatten",
        "via",
    ],
};

/// An entry and where it is written.
pub(super) struct ReadEntry {
    pub(super) entry: Entry,
    /// Its source.
    pub(super) source: Span,
    /// Its source, where no variable is in it.
    pub(super) source_as_written: Option<String>,
    /// Its tags, one for each image, in their order; none where they are selected.
    pub(super) tags: Vec<Span>,
}

/// The keys that an image and the defaults share; `None` where one is not written.
#[derive(Default)]
pub(super) struct ImageKeys {
    platforms: Option<Platforms>,
    missing: Option<MissingPlatform>,
    attestations: Option<Attestations>,
    signatures: Option<Signatures>,
    flatten: Option<(bool, Span)>,
    via: Option<Delivery>,
}

/// What holds for every image that does not say otherwise.
pub(super) fn defaults(root: &Table<'_>) -> Result<ImageKeys, Problem> {
    match root.table("defaults", &DEFAULTS)? {
        Some(table) => wishes(&table),
        None => Ok(ImageKeys::default()),
    }
}

fn wishes(table: &Table<'_>) -> Result<ImageKeys, Problem> {
    Ok(ImageKeys {
        platforms: platforms(table)?,
        missing: table.choice(
            "missing_platform",
            &[("fail", MissingPlatform::Fail), ("warn", MissingPlatform::Warn)],
        )?,
        attestations: table.choice(
            "attestations",
            &[("keep", Attestations::Keep), ("drop", Attestations::Drop)],
        )?,
        signatures: signatures(table)?,
        flatten: table.switch("flatten")?,
        via: table.choice(
            "via",
            &[
                ("mirror", Delivery::Mirror),
                ("pull-through", Delivery::PullThrough),
                ("auto", Delivery::Auto),
            ],
        )?,
    })
}

fn signatures(table: &Table<'_>) -> Result<Option<Signatures>, Problem> {
    if !table.is_string("signatures") {
        let types = table.list("signatures")?.map(|(types, _)| types);
        let types = types.map(|types| types.iter().map(|text| text.to_string()).collect());
        return Ok(types.map(Signatures::Only));
    }
    let all = table.choice("signatures", &[("none", false), ("all", true)])?;
    Ok(all.map(|all| if all { Signatures::All } else { Signatures::None }))
}

fn platforms(table: &Table<'_>) -> Result<Option<Platforms>, Problem> {
    if table.is_string("platforms") {
        return match table.text("platforms")? {
            Some(text) if &*text == "all" => Ok(Some(Platforms::All)),
            Some(text) => Err(Problem::at(&text.span, "neither `\"all\"` nor a list")
                .hint("write a list, like `platforms = [\"linux/amd64\", \"linux/arm64\"]`")),
            None => Ok(None),
        };
    }
    let Some((texts, _)) = table.list("platforms")? else { return Ok(None) };
    let platforms: Vec<_> = texts.iter().map(Text::parse).collect::<Result<_, _>>()?;
    Ok(Platforms::only(platforms))
}

pub(super) fn read(
    table: &Table<'_>,
    defaults: &ImageKeys,
    tables: &Tables<'_>,
) -> Result<ReadEntry, Problem> {
    let Some(source) = table.text("source")? else {
        return Err(Problem::at(&table.span, "has no `source`")
            .hint("write where it comes from, like `source = \"nginx\"`"));
    };
    let reference: Reference = source.parse()?;
    let (tags, tag_spans) = tags(table, &source, &reference)?;
    let own = wishes(table)?;
    let way = RouteKey {
        via: own.via.or(defaults.via).unwrap_or_default(),
        span: table.place("via").unwrap_or_else(|| source.span.clone()),
    };
    let routes = via::read(table, (&source, &reference), &way, tables)?;
    let retag = retag(table, &tags)?;
    let name = table.word("name")?;
    let shape = match routes.mirrored.is_empty() {
        // what is only cached is never made into something else
        true => Shape::Index,
        false => shape(&own, defaults, &source)?,
    };
    let entry = Entry {
        name: name.map_or_else(|| reference.repository.to_string(), |name| name.to_string()),
        host: reference.host,
        repository: reference.repository,
        tags,
        mirrored: routes.mirrored,
        cached: routes.cached,
        retag,
        filter: want(own, defaults, shape),
    };
    let source_as_written = source.as_written().map(str::to_owned);
    Ok(ReadEntry { entry, source: source.span, source_as_written, tags: tag_spans })
}

/// Which images: pinned by the source, listed one by one, or selected.
fn tags(
    table: &Table<'_>,
    source: &Text,
    reference: &Reference,
) -> Result<(Tags, Vec<Span>), Problem> {
    let (list, selection) = (table.list("tags")?, select::read(table)?);
    if let Some(digest) = reference.digest.clone() {
        let others = list.map(|(_, span)| (span, "tags"));
        let others = others.or(selection.map(|(_, span)| (span, "select")));
        if let Some((span, key)) = others {
            return Err(Problem::at(&span, format!("a pinned source has one `tag`, not `{key}`"))
                .hint("leave the digest away, or write `tag = \"…\"`"));
        }
        return pinned(table, source, (digest, reference));
    }
    if let Some(tag) = table.text("tag")? {
        return Err(Problem::at(&tag.span, "`tag` is for sources that are pinned by digest")
            .hint("write `tags = [\"…\"]`"));
    }
    if let Some(own) = &reference.tag {
        let problem = Problem::at(&source.span, "a source has no tag in it");
        return Err(match source.as_written().and_then(|text| text.strip_suffix(own.as_str())) {
            Some(name) => problem.hint(format!(
                "write `source = \"{}\"` and `tags = [\"{own}\"]`",
                name.trim_end_matches(':')
            )),
            None => problem.hint("move the tag to `tags`"),
        });
    }
    match (list, selection) {
        (Some(_), Some((_, span))) => Err(Problem::at(&span, "there are `tags` already")
            .hint("write one of the two, or a second `[[image]]`")),
        (None, Some((selection, _))) => Ok((Tags::Selected(selection), Vec::new())),
        (Some((texts, _)), None) => exact(texts),
        (None, None) => Err(Problem::at(&source.span, "has neither `tags`, `select` nor a digest")
            .hint("write which tags, like `tags = [\"1.27\"]` or `select = { newest = 3 }`")),
    }
}

fn pinned(
    table: &Table<'_>,
    source: &Text,
    (digest, reference): (Digest, &Reference),
) -> Result<(Tags, Vec<Span>), Problem> {
    let (tag, span) = match (table.text("tag")?, &reference.tag) {
        (Some(tag), _) => (tag.parse()?, tag.span),
        (None, Some(own)) => (own.clone(), source.span.clone()),
        (None, None) => {
            return Err(Problem::at(&source.span, "a pinned source needs a `tag`")
                .hint("write what to call it at the destination, like `tag = \"3.20-pinned\"`"));
        }
    };
    Ok((Tags::Pinned { digest, tag }, vec![span]))
}

fn exact(texts: Vec<Text>) -> Result<(Tags, Vec<Span>), Problem> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in &texts {
        let tag = text.parse()?;
        if tags.contains(&tag) {
            return Err(Problem::at(&text.span, "the same tag twice"));
        }
        tags.push(tag);
    }
    Ok((Tags::Exact(tags), texts.into_iter().map(|text| text.span).collect()))
}

/// What the tags become; tried on every one that is known, so that none of them can fail later.
fn retag(table: &Table<'_>, tags: &Tags) -> Result<Retag, Problem> {
    let Some(text) = table.text("retag")? else { return Ok(Retag::default()) };
    let retag: Retag = text.parse()?;
    // a digest's eight digits are as good as another's
    let any = Digest::of(b"");
    let tried = match tags {
        Tags::Exact(tags) => tags.iter().try_for_each(|tag| retag.apply(tag, Some(&any)).map(drop)),
        Tags::Pinned { digest, tag } => retag.apply(tag, Some(digest)).map(drop),
        Tags::Selected(_) => {
            let short: Tag = "0".parse().expect("a digit is a tag");
            retag.apply(&short, Some(&any)).map(drop)
        }
    };
    tried.map_err(|error| text.wrong(error))?;
    Ok(retag)
}

/// Whether the one platform is pushed by itself.
fn shape(own: &ImageKeys, defaults: &ImageKeys, source: &Text) -> Result<Shape, Problem> {
    let platforms = own.platforms.as_ref().or(defaults.platforms.as_ref());
    let flatten = own.flatten.as_ref().or(defaults.flatten.as_ref());
    match (flatten, platforms) {
        (Some((true, _)), Some(Platforms::Only(one))) if one.len() == 1 => Ok(Shape::Flat),
        (Some((true, span)), _) => {
            let wanted = match platforms {
                Some(Platforms::Only(several)) => several.len().to_string(),
                Some(Platforms::All) | None => "all".to_owned(),
            };
            let (span, whose) = match own.flatten {
                Some(_) => (span, ""),
                None => (&source.span, " of `[defaults]`"),
            };
            let label =
                format!("`flatten`{whose} needs exactly one platform, this image has {wanted}");
            Err(Problem::at(span, label)
                .hint("write one, like `platforms = [\"linux/amd64\"]`, or `flatten = false`"))
        }
        (Some((false, _)) | None, _) => Ok(Shape::Index),
    }
}

/// What the image says, else the defaults.
fn want(own: ImageKeys, defaults: &ImageKeys, shape: Shape) -> Filter {
    Filter {
        platforms: own.platforms.or(defaults.platforms.clone()).unwrap_or_default(),
        missing: own.missing.or(defaults.missing).unwrap_or_default(),
        attestations: own.attestations.or(defaults.attestations).unwrap_or_default(),
        signatures: own.signatures.or(defaults.signatures.clone()).unwrap_or_default(),
        shape,
    }
}
