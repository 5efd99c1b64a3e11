//! Pages of tag listings as registries write them.
//!
//! Parsers skip names that are not tags. They reject a page with an implausible number of tags.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::model::{Digest, Listed, ListedImage};

/// Parses a page of `tags/list`.
pub(crate) type ParseTags = fn(&[u8]) -> serde_json::Result<TagPage>;

/// A page of `tags/list`.
#[derive(Debug, Default)]
pub(crate) struct TagPage {
    pub(crate) tags: Vec<Listed>,
    /// The names on the page, also those that are not tags.
    pub(crate) names: usize,
    /// The last of the names.
    pub(crate) last: Option<String>,
}

/// The largest number of tags that is read from a repository; more are made up.
pub(crate) const TAGS: usize = 1_000_000;

/// The end of the year 9999, since 1970. A later push time is ignored.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// The entries of indexes, by the digest of the index.
pub(crate) type ListedIndexes = HashMap<Digest, Vec<ListedImage>>;

/// A page of a listing with numbered pages.
#[derive(Debug)]
pub(crate) struct NumberedPage {
    pub(crate) tags: Vec<Listed>,
    /// The indexes that the tags point to, if the listing reports their entries.
    pub(crate) indexes: ListedIndexes,
    /// The times by which the listing is sorted, newest first, one per entry.
    pub(crate) times: Vec<Option<SystemTime>>,
    pub(crate) has_next: bool,
    /// The number of all pages, if the listing reports it.
    pub(crate) pages: Option<usize>,
}

impl NumberedPage {
    /// Returns `true` if this page and all later ones are older than `since`.
    pub(crate) fn is_before(&self, since: Option<SystemTime>) -> bool {
        let is_older = |since| self.times.iter().all(|time| time.is_some_and(|time| time < since));
        since.is_some_and(is_older)
    }
}

/// A tag of a listing; `None` for a name that is not a tag.
pub(crate) fn listed(
    name: &str,
    digest: Option<&str>,
    pushed: Option<SystemTime>,
) -> Option<Listed> {
    let is_plausible =
        |time: &SystemTime| time.duration_since(UNIX_EPOCH).is_ok_and(|since| since <= LATEST);
    Some(Listed {
        tag: name.parse().ok()?,
        digest: digest.and_then(|digest| digest.parse().ok()),
        pushed: pushed.filter(is_plausible),
    })
}

/// Parses the specification's page, which has names only.
pub(crate) fn parse_names(page: &[u8]) -> serde_json::Result<TagPage> {
    #[derive(Deserialize)]
    struct NamesPage {
        #[serde(default, deserialize_with = "deserialize_tags")]
        tags: TagPage,
    }

    serde_json::from_slice(page).map(|page: NamesPage| page.tags)
}

/// Drops names that are not tags at once: a page of them can take many times its size in memory.
fn deserialize_tags<'de, D: Deserializer<'de>>(from: D) -> Result<TagPage, D::Error> {
    struct TagVisitor;

    impl<'de> Visitor<'de> for TagVisitor {
        type Value = TagPage;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tags")
        }

        // Go writes an empty list as `null`
        fn visit_unit<E>(self) -> Result<TagPage, E> {
            Ok(TagPage::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<TagPage, A::Error> {
            let (mut page, mut last) = (TagPage::default(), None);
            while let Some(name) = from.next_element::<Cow<'de, str>>()? {
                page.tags.extend(listed(&name, None, None));
                page.names += 1;
                if page.tags.len() > TAGS {
                    return Err(de::Error::custom(format!("it has more than {TAGS} tags")));
                }
                last = Some(name);
            }
            page.last = last.map(Cow::into_owned);
            Ok(page)
        }
    }

    from.deserialize_any(TagVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_with_an_implausible_number_of_tags_or_without_a_list_is_an_error() {
        let page = |tags: usize| format!("{{\"tags\":[{}]}}", vec!["\"a\""; tags].join(","));
        assert_eq!(parse_names(page(TAGS).as_bytes()).unwrap().names, TAGS);
        for (page, problem) in [
            (page(TAGS + 1), "it has more than 1000000 tags"),
            (r#"{"tags":5}"#.to_owned(), "invalid type: integer `5`, expected a list of tags"),
        ] {
            let error = parse_names(page.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
