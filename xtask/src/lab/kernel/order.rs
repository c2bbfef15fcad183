//! In which order modules are loaded.

use anyhow::Result;

/// The wanted modules and all they depend on, each after what it depends on, each once. `depends` gives the direct
/// dependencies of a module, or nothing for one that is not there: built into the kernel, so it need not be loaded.
pub(super) fn loading_order(
    wanted: &[&str],
    depends: &mut dyn FnMut(&str) -> Result<Option<Vec<String>>>,
) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    let mut order = Vec::new();
    for module in wanted {
        visit(module, depends, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn visit(
    module: &str,
    depends: &mut dyn FnMut(&str) -> Result<Option<Vec<String>>>,
    seen: &mut Vec<String>,
    order: &mut Vec<String>,
) -> Result<()> {
    let module = canonical(module);
    if seen.contains(&module) {
        return Ok(());
    }
    seen.push(module.clone());
    if let Some(dependencies) = depends(&module)? {
        for dependency in &dependencies {
            visit(dependency, depends, seen, order)?;
        }
        order.push(module);
    }
    Ok(())
}

/// The kernel's own name of a module: `kvm-amd.ko` is `kvm_amd`.
pub(super) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The direct dependencies that a module's `.modinfo` section names: NUL-separated `key=value` texts.
pub(super) fn dependencies(module: &[u8]) -> Vec<String> {
    // Never the first text of the section, so the NUL in front keeps out `softdepends=` and the like.
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(wanted: &[&str], known: &[(&str, &[&str])]) -> Vec<String> {
        let mut depends = |name: &str| {
            let found = known.iter().find(|(module, _)| *module == name);
            Ok(found.map(|(_, needs)| needs.iter().map(|need| (*need).to_owned()).collect()))
        };
        loading_order(wanted, &mut depends).unwrap()
    }

    #[test]
    fn what_a_module_depends_on_is_loaded_first_and_once() {
        let known: &[(&str, &[&str])] =
            &[("kvm_amd", &["kvm", "ccp"]), ("kvm", &["irqbypass"]), ("ccp", &["irqbypass"]), ("irqbypass", &[])];
        assert_eq!(order(&["kvm_amd"], known), ["irqbypass", "kvm", "ccp", "kvm_amd"]);
    }

    #[test]
    fn a_dash_and_an_underscore_are_the_same() {
        let known: &[(&str, &[&str])] = &[("kvm_amd", &["crypto-x"]), ("crypto_x", &[])];
        assert_eq!(order(&["kvm-amd"], known), ["crypto_x", "kvm_amd"]);
    }

    #[test]
    fn what_is_built_in_is_left_out() {
        assert_eq!(order(&["kvm_amd"], &[("kvm_amd", &["kvm"])]), ["kvm_amd"]);
        assert!(order(&["kvm_amd"], &[]).is_empty());
    }

    #[test]
    fn a_circle_of_dependencies_ends() {
        assert_eq!(order(&["a"], &[("a", &["b"]), ("b", &["a"])]), ["b", "a"]);
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF..\0license=GPL\0softdepends=x\0depends=kvm,ccp\0intree=Y\0";
        assert_eq!(dependencies(module), ["kvm", "ccp"]);
        assert!(dependencies(b"\0depends=\0name=irqbypass\0").is_empty());
        assert!(dependencies(b"not a module").is_empty());
    }
}
