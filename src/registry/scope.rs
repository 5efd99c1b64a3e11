//! The permissions that a request needs, and their form for a token service.
//!
//! Source: distribution specification, "Token scope documentation".

use crate::model::Repository;

/// The permissions that a request needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) repository: Repository,
    pub(crate) permission: Permission,
    /// The repository a blob is mounted from.
    pub(crate) mount_from: Option<Repository>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Permission {
    Pull,
    PullPush,
}

impl Scope {
    pub(crate) fn new(repository: &Repository, permission: Permission) -> Self {
        Self { repository: repository.clone(), permission, mount_from: None }
    }

    pub(crate) fn mounting_from(mut self, from: &Repository) -> Self {
        self.mount_from = Some(from.clone());
        self
    }

    /// The scopes to request: the challenge's if it names anything but these repositories.
    pub(crate) fn scopes(&self, challenged: Option<&str>) -> Vec<String> {
        let is_own = |scope: &str| {
            let mut names =
                [Some(&self.repository), self.mount_from.as_ref()].into_iter().flatten();
            names.any(|name| scope.starts_with(&format!("repository:{name}:")))
        };
        if let Some(challenged) = challenged
            && !challenged.split_whitespace().all(is_own)
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
    fn a_challenge_with_another_scope_is_followed() {
        let scope = Scope::new(&"a/b".parse().unwrap(), Permission::PullPush);
        let mount = scope.clone().mounting_from(&"c".parse().unwrap());
        for (scope, challenged, expected) in [
            (&scope, None, vec!["repository:a/b:pull,push"]),
            (&scope, Some("repository:a/b:pull"), vec!["repository:a/b:pull,push"]),
            (&scope, Some("aws"), vec!["aws"]),
            (&scope, Some("repository:x/a/b:pull x"), vec!["repository:x/a/b:pull", "x"]),
            (
                &mount,
                Some("repository:a/b:pull,push"),
                vec!["repository:a/b:pull,push", "repository:c:pull"],
            ),
        ] {
            assert_eq!(scope.scopes(challenged), expected, "{challenged:?}");
        }
    }
}
