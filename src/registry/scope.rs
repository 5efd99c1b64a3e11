//! What a request needs to be allowed to do, and how a token service is told.
//!
//! Source: distribution specification, "Token scope documentation".

use crate::model::Repository;

/// What a request needs to be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) repository: Repository,
    pub(crate) permission: Permission,
    /// The repository a blob is mounted from.
    pub(crate) mount_from: Option<Repository>,
}

/// What is done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Permission {
    Pull,
    PullPush,
}

impl Scope {
    pub(crate) fn new(repository: &Repository, rights: Permission) -> Self {
        Self { repository: repository.clone(), permission: rights, mount_from: None }
    }

    pub(crate) fn mounting_from(mut self, from: &Repository) -> Self {
        self.mount_from = Some(from.clone());
        self
    }

    /// The scopes to ask for: the challenge's own where it speaks of anything but these repositories.
    pub(crate) fn scopes(&self, challenged: Option<&str>) -> Vec<String> {
        let ours = |scope: &str| {
            let mut names =
                [Some(&self.repository), self.mount_from.as_ref()].into_iter().flatten();
            names.any(|name| scope.starts_with(&format!("repository:{name}:")))
        };
        if let Some(challenged) = challenged
            && !challenged.split_whitespace().all(ours)
        {
            return challenged.split_whitespace().map(str::to_owned).collect();
        }
        let actions = match self.permission {
            Permission::Pull => "pull",
            Permission::PullPush => "pull,push",
        };
        let mut scopes = vec![format!("repository:{}:{actions}", self.repository)];
        scopes.extend(self.mount_from.iter().map(|from| format!("repository:{from}:pull")));
        scopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_of_another_scope_is_taken_by_its_word() {
        let access = Scope::new(&"a/b".parse().unwrap(), Permission::PullPush);
        let mount = access.clone().mounting_from(&"c".parse().unwrap());
        for (access, challenged, expected) in [
            (&access, None, vec!["repository:a/b:pull,push"]),
            (&access, Some("repository:a/b:pull"), vec!["repository:a/b:pull,push"]),
            (&access, Some("aws"), vec!["aws"]),
            (&access, Some("repository:x/a/b:pull x"), vec!["repository:x/a/b:pull", "x"]),
            (
                &mount,
                Some("repository:a/b:pull,push"),
                vec!["repository:a/b:pull,push", "repository:c:pull"],
            ),
        ] {
            assert_eq!(access.scopes(challenged), expected, "{challenged:?}");
        }
    }
}
