//! Adds the images that a build uses: tags to the entries of their repositories, else lines in the
//! order of the file.

use std::collections::HashMap;

use toml_edit::{ArrayOfTables, InlineTable, Item, Table, TableLike, Value};

use super::{Array, EditedFile, ImageEntry, Reference, Result, SELECT, add_tags, unexpected};

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
        images.iter().try_for_each(|image| self.add_image(image))
    }

    fn add_image(&mut self, image: &LackingImage) -> Result<()> {
        let entry = &image.entry;
        let is_same = |text: &str| {
            text.parse::<Reference>().is_ok_and(|read| {
                let is_repository = read.tag.is_none() && read.digest.is_none();
                is_repository && (read.host, read.repository) == entry.image()
            })
        };
        let tables = self.0.get("image").and_then(Item::as_array_of_tables);
        let is_of_image =
            |table: &Table| table.get("source").and_then(Item::as_str).is_some_and(is_same);
        if let Some(at) = tables.and_then(|tables| tables.iter().position(is_of_image))
            && let Some(tables) = self.0.get_mut("image").and_then(Item::as_array_of_tables_mut)
            && let Some(table) = tables.get_mut(at)
        {
            return add_to_table(table, &entry.tags);
        }
        let inherited = image.wildcard.as_deref().map(|source| self.keys_of(source));
        let (is_empty, is_missing) = (self.0.is_empty(), !self.0.contains_key("images"));
        let images = self.table(&["images"])?;
        let known = images.iter().map(|(key, _)| key).find(|key| is_same(key)).map(str::to_owned);
        if let Some(item) = known.and_then(|key| images.get_mut(&key)) {
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
        match self.0.get_mut("images").and_then(Item::as_table_mut) {
            Some(images) => insert_sorted(images, &key, value),
            None => drop(self.table(&["images"])?.insert(&key, toml_edit::value(value))),
        }
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

/// Inserts a line before the first one of a later repository; at the end if the lines are not sorted.
fn insert_sorted(images: &mut Table, key: &str, value: Value) {
    let mut keys: Vec<String> = images.iter().map(|(key, _)| key.to_owned()).collect();
    images.insert(key, toml_edit::value(value));
    let place = sort_key(key);
    let is_later = |known: &String| sort_key(known) > place;
    let later = keys.iter().position(is_later).filter(|_| keys.is_sorted_by_key(|it| sort_key(it)));
    let Some(at) = later else { return };
    let next = keys[at].clone();
    keys.insert(at, key.to_owned());
    let order: HashMap<&str, usize> = keys.iter().map(String::as_str).zip(0..).collect();
    images.sort_values_by(|one, _, other, _| order.get(one.get()).cmp(&order.get(other.get())));
    // a heading of the registry, or an empty line, stays above its first line
    let (host, _) = place;
    if sort_key(&next).0 != host {
        return;
    }
    let prefix =
        images.key(&next).and_then(|it| it.leaf_decor().prefix()?.as_str().map(str::to_owned));
    let is_heading = |text: &String| {
        let comment = text.trim();
        (comment.is_empty() && !text.is_empty()) || comment == format!("# {host}")
    };
    if let Some(prefix) = prefix.filter(is_heading) {
        for (key, prefix) in [(key, prefix.as_str()), (&next, "")] {
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
}
