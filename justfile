# Recipes for the checks. Each one runs a step of .ci/run, which also works without just.

# Lists the recipes
default:
    @{{ just_executable() }} --list

# Runs every step, as CI does
check:
    .ci/run

# Checks formatting, lints and the library's own tests
check-fast:
    .ci/run format lint
    cargo test --locked --lib

# Installs the programs that other recipes need, unless they are in PATH
packages:
    .ci/run packages

# Installs moto into the target directory, unless it is there
moto:
    .ci/run moto

# Installs checkers of workflows and schemas into the target directory, unless they are there
checkers:
    .ci/run checkers

# Checks the formatting
format:
    .ci/run format

# Runs clippy; warnings are errors
lint:
    .ci/run lint

# Checks names and prose
language:
    .ci/run language

# Builds the documentation; warnings are errors
document:
    .ci/run document

# Checks licences, duplicates and sources of the dependencies, offline
dependencies:
    .ci/run dependencies

# Checks the workflows, scripts and the files of deploy/
workflows: checkers
    .ci/run workflows

# Runs every test; skips the tests of programs that are not installed
test:
    CI= .ci/run test

# Mirrors the example twice; the second run must copy nothing
example:
    .ci/run example

# Pulls base images from the mirror with buildah, Docker and other builders; needs root
builds:
    .ci/run builds

# Packs the crate for crates.io and installs it from the package
crate:
    .ci/run crate

# Builds the binary of a release and checks it
binary:
    .ci/run binary

# Builds the container image and runs it; needs root
image:
    .ci/run image

# Builds the archive and the Debian package and checks them
deb:
    .ci/run deb
