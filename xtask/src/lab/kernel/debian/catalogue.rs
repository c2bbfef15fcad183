//! Which kernels apt knows, and which packages each of them is made of.

use std::collections::BTreeSet;

/// The flavour with drivers for virtual machines only: small, and all the lab needs.
const FLAVOUR: &str = "-cloud-amd64";
/// How the packages begin that hold a kernel, or depend on those that do.
pub(super) const IMAGE: &str = "linux-image-";
/// A package of this name is of no use here: it has the kernel's configuration, and need not exist for each kernel.
const CONFIGURATION: &str = "linux-base-";

/// One kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// The kernel's own name of itself, `6.12.117+deb12-cloud-amd64`.
    pub(super) name: String,
    /// Its packages: a single one, or since 6.19 an empty one and those with the image and the modules.
    pub(super) packages: Vec<String>,
    /// One of them that apt does not know.
    pub(super) missing: Option<String>,
}

/// The packages that might hold a kernel. Not the unsigned and debug variants, and not the packages without a version that
/// only depend on the newest.
pub(super) fn images<'a>(names: &BTreeSet<&'a str>) -> Vec<&'a str> {
    names.iter().copied().filter(|name| name.strip_prefix(IMAGE).is_some_and(|release| series(release).is_some())).collect()
}

/// The series of a kernel, 6.12; nothing if this is no kernel's name, or one of another flavour.
fn series(release: &str) -> Option<&str> {
    let version = release.strip_suffix(FLAVOUR)?;
    let (major, rest) = version.split_once('.')?;
    let (minor, _) = rest.split_once('.')?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(major) && is_number(minor)).then(|| &version[..major.len() + 1 + minor.len()])
}

/// The kernels that `apt-cache show` describes, newest first.
pub(super) fn releases(shown: &str, known: &BTreeSet<&str>) -> Vec<Release> {
    let mut releases: Vec<Release> = shown.split("\n\n").filter_map(|package| release(package, known)).collect();
    releases.sort_by_cached_key(|release| std::cmp::Reverse(numbers(&release.name)));
    releases
}

/// The kernel of one described package.
fn release(package: &str, known: &BTreeSet<&str>) -> Option<Release> {
    let field = |name: &str| package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let image = field("Package")?;
    let name = image.strip_prefix(IMAGE)?;
    let depends = field("Depends").unwrap_or_default().split([',', '|']).filter_map(|entry| entry.split_whitespace().next());
    let parts = depends.filter(|depend| depend.ends_with(&format!("-{name}")) && !depend.starts_with(CONFIGURATION));
    let packages: Vec<String> = std::iter::once(image).chain(parts).map(str::to_owned).collect();
    let missing = packages.iter().find(|package| !known.contains(&package[..])).cloned();
    Some(Release { name: name.to_owned(), packages, missing })
}

/// All numbers in a name: versions compare by these, 6.12.9 before 6.12.117.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

impl Release {
    /// Whether this is a kernel of the series.
    pub(super) fn is_of(&self, wanted: &str) -> bool {
        series(&self.name) == Some(wanted)
    }
}

/// The series that have at least one whole kernel, oldest first.
pub(super) fn series_there(releases: &[Release]) -> Vec<&str> {
    let whole = releases.iter().filter(|release| release.missing.is_none());
    let mut found: Vec<&str> = whole.filter_map(|release| series(&release.name)).collect();
    found.sort_by_cached_key(|series| numbers(series));
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
        names.iter().copied().collect()
    }

    #[test]
    fn only_real_images_are_taken_for_images() {
        let names = known(&[
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-dbg",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-image-cloud-amd64",
            "linux-image-unsigned-6.1.0-56-cloud-amd64",
            "linux-image-6.12.9+deb12-cloud-amd64",
        ]);
        assert_eq!(images(&names), ["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.12.9+deb12-cloud-amd64"]);
    }

    #[test]
    fn versions_are_compared_by_number() {
        let shown = "Package: linux-image-6.12.9+deb12-cloud-amd64\n\nPackage: linux-image-6.12.117+deb12-cloud-amd64\n\n\
                     Package: linux-image-6.12.100+deb12-cloud-amd64\n";
        let releases = releases(shown, &known(&[]));
        let names: Vec<_> = releases.iter().map(|release| &release.name[..]).collect();
        assert_eq!(names, ["6.12.117+deb12-cloud-amd64", "6.12.100+deb12-cloud-amd64", "6.12.9+deb12-cloud-amd64"]);
        assert!(releases[0].is_of("6.12") && !releases[0].is_of("6.1") && !releases[0].is_of("6.12.117"));
    }

    #[test]
    fn a_kernel_in_several_packages_needs_them_all() {
        let (image, binary, modules) =
            ("linux-image-7.3.4-cloud-amd64", "linux-binary-7.3.4-cloud-amd64", "linux-modules-7.3.4-cloud-amd64");
        let shown = format!(
            "Package: {image}\nVersion: 7.3.4-1\nDepends: dracut | initramfs-tools (>= 0.1), linux-base-7.3.4-cloud-amd64 (= \
             7.3.4-1), {binary} (= 7.3.4-1), {modules} (= 7.3.4-1)\nPre-Depends: linux-base (>= 4)\n"
        );
        let whole = &releases(&shown, &known(&[image, binary, modules]))[0];
        assert_eq!((&whole.packages[..], &whole.missing), (&[image, binary, modules].map(str::to_owned)[..], &None));
        let half = &releases(&shown, &known(&[image, binary]))[0];
        assert_eq!(half.missing.as_deref(), Some(modules));
    }

    #[test]
    fn the_series_that_are_there_are_in_order_and_whole() {
        let shown = "Package: linux-image-6.12.9-cloud-amd64\n\nPackage: linux-image-6.1.0-5-cloud-amd64\n\n\
                     Package: linux-image-6.12.8-cloud-amd64\n\nPackage: linux-image-5.10.0-30-cloud-amd64\n";
        let names =
            known(&["linux-image-6.12.9-cloud-amd64", "linux-image-6.12.8-cloud-amd64", "linux-image-6.1.0-5-cloud-amd64"]);
        assert_eq!(series_there(&releases(shown, &names)), ["6.1", "6.12"]);
    }
}
