//! Adds the images that a build uses: tags to the entries of their repositories, else lines in the
//! order of the file.

use std::collections::HashMap;

use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{
    Array, EditedFile, Host, ImageEntry, Reference, Repository, Result, SELECT, add_tags,
    unexpected,
};

/// The keys of a source with a `*` that a line of one repository does not have, beside [`SELECT`].
const OF_WILDCARD: [&str; 7] =
    ["source", "name", "tags", "tag", "select", "at_most", "exclude_repositories"];

/// An image that a file lacks.
#[derive(Debug)]
pub(crate) struct LackingImage {
    /// With one tag. Its keys are for a new line.
    pub(crate) entry: ImageEntry,
    /// The source with a `*` that selects the repository: a new line has its keys.
    pub(crate) wildcard: Option<String>,
}

impl EditedFile {
    /// Adds the images. Adding one again changes nothing.
    ///
    /// # Errors
    /// [`Kind::Configuration`](crate::model::Kind) if a key of the file has another type.
    pub(crate) fn add_used(&mut self, images: &[LackingImage]) -> Result<()> {
        let mut places = ImagePlaces::of(&self.0);
        let known = places.lines.len();
        images.iter().try_for_each(|image| self.add_image(image, &mut places))?;
        if places.lines.len() > known
            && let Some(lines) = self.0.get_mut("images").and_then(Item::as_table_mut)
        {
            sort_added(lines, lines.len() - (places.lines.len() - known));
        }
        Ok(())
    }

    fn add_image(&mut self, image: &LackingImage, places: &mut ImagePlaces) -> Result<()> {
        let entry = &image.entry;
        if let Some(at) = places.tables.get(&entry.image())
            && let Some(tables) = self.0.get_mut("image").and_then(Item::as_array_of_tables_mut)
            && let Some(table) = tables.get_mut(*at)
        {
            return add_to_table(table, &entry.tags);
        }
        let inherited = image.wildcard.as_deref().map(|source| self.keys_of(source));
        let (is_empty, is_missing) = (self.0.is_empty(), !self.0.contains_key("images"));
        let images = self.table(&["images"])?;
        let known = places.lines.get(&entry.image());
        if let Some(item) = known.and_then(|key| images.get_mut(key)) {
            if let Some(table) = item.as_table_like_mut() {
                return add_to_table(table, &entry.tags);
            }
            let value = item.as_value_mut().ok_or_else(|| unexpected("images"))?;
            add_tags(value, &entry.tags);
            return Ok(());
        }
        let (key, inherited) = (entry.key(), inherited.unwrap_or_default());
        let mut value = entry.value(&key);
        if !inherited.is_empty() {
            let own = InlineTable::from_iter(entry.tags().map(|tags| ("tags", tags)));
            let mut table = own;
            table.extend(inherited);
            table.extend(entry.others());
            value = table.into();
        }
        self.table(&["images"])?.insert(&key, toml_edit::value(value));
        places.lines.insert(entry.image(), key);
        if is_missing && !is_empty {
            self.comment(&["images"], &mut String::new());
        }
        Ok(())
    }

    /// The keys of the source with a `*` that are not about its repositories and tags.
    fn keys_of(&self, wildcard: &str) -> Vec<(String, Value)> {
        let tables = self.0.get("image").and_then(Item::as_array_of_tables);
        let mut tables = tables.into_iter().flat_map(ArrayOfTables::iter);
        let is_source =
            |table: &&Table| table.get("source").and_then(Item::as_str) == Some(wildcard);
        let table = tables.find(is_source).map(|table| table as &dyn TableLike);
        let line = || self.0.get("images")?.get(wildcard)?.as_table_like();
        let keys = table.or_else(line).into_iter().flat_map(TableLike::iter);
        let keys = keys.filter(|(key, _)| !OF_WILDCARD.contains(key) && !SELECT.contains(key));
        let value = |item: &Item| {
            let mut value = item.clone().into_value().ok()?;
            value.decor_mut().clear();
            Some(value)
        };
        keys.filter_map(|(key, item)| Some((key.to_owned(), value(item)?))).collect()
    }
}

/// Adds tags to those of an entry. One without tags and selection has `latest`.
fn add_to_table(table: &mut dyn TableLike, tags: &[String]) -> Result<()> {
    match table.get_mut("tags") {
        Some(known) => {
            add_tags(known.as_value_mut().ok_or_else(|| unexpected("tags"))?, tags);
        }
        None => {
            let selects = table.contains_key("select");
            let selects = selects || SELECT.iter().any(|key| table.contains_key(key));
            let latest = (!selects).then(|| "latest".to_owned());
            let tags = latest.into_iter().filter(|tag| !tags.contains(tag)).chain(tags.to_vec());
            let mut value = Value::from(Array::from_iter(tags));
            // the space before the `}` of an inline table stays there
            let last = table.iter_mut().last().map(|(_, item)| item);
            if let Some(last) = last.and_then(Item::as_value_mut).map(Value::decor_mut)
                && let Some(space) = last.suffix().and_then(|it| it.as_str().map(str::to_owned))
                && space.trim().is_empty()
            {
                last.set_suffix("");
                value.decor_mut().set_suffix(space);
                value.decor_mut().set_prefix(" ");
            }
            table.insert("tags", Item::Value(value));
        }
    }
    Ok(())
}

/// The places of repositories in a file.
struct ImagePlaces {
    /// The indexes of `[[image]]` tables.
    tables: HashMap<(Host, Repository), usize>,
    /// The keys of `[images]`.
    lines: HashMap<(Host, Repository), String>,
}

impl ImagePlaces {
    fn of(file: &DocumentMut) -> Self {
        let (mut tables, mut lines) = (HashMap::new(), HashMap::new());
        let all = file.get("image").and_then(Item::as_array_of_tables);
        for (at, table) in all.into_iter().flat_map(ArrayOfTables::iter).enumerate() {
            if let Some(image) = table.get("source").and_then(Item::as_str).and_then(repository) {
                tables.entry(image).or_insert(at);
            }
        }
        let all = file.get("images").and_then(Item::as_table_like);
        for (key, _) in all.into_iter().flat_map(TableLike::iter) {
            if let Some(image) = repository(key) {
                lines.entry(image).or_insert_with(|| key.to_owned());
            }
        }
        Self { tables, lines }
    }
}

/// The repository of a text that has neither a tag nor a digest.
fn repository(text: &str) -> Option<(Host, Repository)> {
    let Reference { host, repository, tag, digest } = text.parse().ok()?;
    (tag.is_none() && digest.is_none()).then_some((host, repository))
}

/// Moves the lines after the first `known` ones to their places, if the known lines are sorted.
fn sort_added(images: &mut Table, known: usize) {
    let keys: Vec<String> = images.iter().map(|(key, _)| key.to_owned()).collect();
    let places: Vec<_> = keys.iter().map(|key| sort_key(key)).collect();
    if !places[..known].is_sorted() {
        return;
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|at| &places[*at]);
    let ranks: HashMap<&str, usize> =
        order.iter().zip(0..).map(|(at, rank)| (keys[*at].as_str(), rank)).collect();
    images.sort_values_by(|one, _, other, _| ranks.get(one.get()).cmp(&ranks.get(other.get())));
    // the first of the added lines that are directly above the current one, of its registry
    let mut first: Option<usize> = None;
    for at in order {
        let (host, _) = &places[at];
        first = first.filter(|first| places[*first].0 == *host);
        if at >= known {
            first = first.or(Some(at));
        } else if let Some(first) = first.take() {
            move_heading(images, &keys[at], &keys[first], host);
        }
    }
}

/// Moves the heading of the registry, or the empty line, from its former first line to the new one.
fn move_heading(images: &mut Table, from: &str, to: &str, host: &str) {
    let prefix =
        images.key(from).and_then(|it| it.leaf_decor().prefix()?.as_str().map(str::to_owned));
    let is_heading = |text: &String| {
        let comment = text.trim();
        (comment.is_empty() && !text.is_empty()) || comment == format!("# {host}")
    };
    if let Some(prefix) = prefix.filter(is_heading) {
        for (key, prefix) in [(to, prefix.as_str()), (from, "")] {
            if let Some(mut key) = images.key_mut(key) {
                key.leaf_decor_mut().set_prefix(prefix);
            }
        }
    }
}

/// The registry and the path of a key of `[images]`, which can be a list's or have a `*`.
fn sort_key(key: &str) -> (String, String) {
    let whole = key.replace('*', "").trim_end_matches('/').to_owned();
    match key.parse::<Reference>().or_else(|_| whole.parse()) {
        Ok(reference) => (reference.host.to_string(), reference.repository.to_string()),
        Err(_) => (whole, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(reference: &str, wildcard: Option<&str>) -> LackingImage {
        let Reference { host, repository, tag, digest } = reference.parse().unwrap();
        let pin = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        let tags = vec![format!("{}{pin}", tag.unwrap())];
        let entry = ImageEntry { host, repository, tags, keys: Default::default() };
        LackingImage { entry, wildcard: wildcard.map(str::to_owned) }
    }

    #[test]
    fn a_tag_goes_to_the_entry_of_its_repository_whatever_form_that_has() {
        for (before, reference, after) in [
            ("", "alpine:3", "[images]\nalpine = \"3\"\n"),
            ("[images]\nalpine = \"3\"\n", "alpine:3", "[images]\nalpine = \"3\"\n"),
            (
                "[images]\n\"docker.io/library/alpine\" = [\"2\"] # a\n",
                "alpine:3",
                "[images]\n\"docker.io/library/alpine\" = [\"2\", \"3\"] # a\n",
            ),
            (
                "[images]\nalpine = { flatten = true }\n",
                "alpine:3",
                "[images]\nalpine = { flatten = true, tags = [\"latest\", \"3\"] }\n",
            ),
            (
                "[images.alpine]\nnewest = 1\n",
                "alpine:3",
                "[images.alpine]\nnewest = 1\ntags = [\"3\"]\n",
            ),
            (
                "[[image]]\nsource = \"alpine\"\ntags = [\"2\"]\n",
                "alpine:3",
                "[[image]]\nsource = \"alpine\"\ntags = [\"2\", \"3\"]\n",
            ),
            // not sorted
            (
                "[images]\nredis = \"7\"\nbusybox = \"1\"\n",
                "nginx:1",
                "[images]\nredis = \"7\"\nbusybox = \"1\"\nnginx = \"1\"\n",
            ),
            // a comment of a line stays there
            (
                "[images]\n# for the tests\nredis = \"7\"\n",
                "nginx:1",
                "[images]\nnginx = \"1\"\n# for the tests\nredis = \"7\"\n",
            ),
        ] {
            let mut file = EditedFile::parse("mirror.toml", before).unwrap();
            file.add_used(&[image(reference, None)]).unwrap();
            assert_eq!(file.to_string(), after);
            file.add_used(&[image(reference, None)]).unwrap();
            assert_eq!(file.to_string(), after, "again");
        }
    }

    #[test]
    fn line_ends_and_a_byte_order_mark_stay_and_without_an_addition_every_byte() {
        let before = "\u{feff}# ours\r\n[images]\r\nalpine = \"3\" # small\r\n";
        let added = |before: &str, reference| {
            let mut file = EditedFile::parse("mirror.toml", before).unwrap();
            file.add_used(&[image(reference, None)]).unwrap();
            file.to_string()
        };
        let after = before.replace("\"3\"", "[\"3\", \"4\"]") + "busybox = \"1\"\r\n";
        assert_eq!(added(&added(before, "alpine:4"), "busybox:1"), after);
        // a file with both line ends
        for mixed in [before.to_owned() + "busybox = \"1\"\n", before.replace("ours\r", "ours")] {
            assert_eq!(added(&mixed, "alpine:3"), mixed);
        }
    }

    #[test]
    fn a_line_of_a_repository_has_the_keys_of_the_source_with_a_wildcard() {
        let wildcard = "docker.io/library/*";
        for before in [
            format!("[images]\n\"{wildcard}\" = {{ newest = 2, at_most = 9, flatten = true }}\n"),
            format!(
                "[[image]]\nsource = \"{wildcard}\"\ntags = [\"1\"]\nat_most = 9\nflatten = true\n"
            ),
        ] {
            let mut file = EditedFile::parse("mirror.toml", &before).unwrap();
            file.add_used(&[
                image("nginx:1.27", Some(wildcard)),
                image("nginx:1.28", Some(wildcard)),
            ])
            .unwrap();
            let line = "nginx = { tags = [\"1.27\", \"1.28\"], flatten = true }\n";
            assert!(file.to_string().ends_with(line), "{file}");
        }
    }

    #[test]
    fn added_lines_are_sorted_below_the_heading_of_their_registry() {
        let before = "[images]\n# docker.io\nnginx = \"1\"\n\n# quay.io\n\"quay.io/b/b\" = \"1\"\n";
        let mut file = EditedFile::parse("mirror.toml", before).unwrap();
        let added = ["quay.io/c/c:1", "quay.io/a/b:1", "redis:7", "busybox:1", "quay.io/a/a:1"];
        file.add_used(&added.map(|reference| image(reference, None))).unwrap();
        let after = "[images]\n# docker.io\nbusybox = \"1\"\nnginx = \"1\"\nredis = \"7\"\n\n\
                     # quay.io\n\"quay.io/a/a\" = \"1\"\n\"quay.io/a/b\" = \"1\"\n\
                     \"quay.io/b/b\" = \"1\"\n\"quay.io/c/c\" = \"1\"\n";
        assert_eq!(file.to_string(), after);
    }

    #[test]
    fn the_lines_of_a_file_are_read_once_for_all_images() {
        let line = |at: usize| format!("\"quay.io/team/a{at:05}\" = \"1\"\n");
        let before = format!("[images]\n{}", (0..2_000).map(line).collect::<String>());
        let images: Vec<LackingImage> =
            (0..200).map(|at| image(&format!("quay.io/team/b{at:05}:1"), None)).collect();
        let add = |images: &[LackingImage]| {
            let mut file = EditedFile::parse("mirror.toml", &before).unwrap();
            let start = std::time::Instant::now();
            file.add_used(images).unwrap();
            start.elapsed()
        };
        let (one, all) = (add(&images[..1]), add(&images));
        // each image again would take 200 times as long
        assert!(all < one * 40, "{one:?} for one, {all:?} for 200");
    }
}
