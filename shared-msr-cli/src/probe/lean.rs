//! The object without maps that nothing uses. A kernel that lacks a kind of map (ring buffers before Linux 5.8, queues before 4.20)
//! refuses to make it also where no program that is loaded ever touches it; and it would cost memory.

use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::object::missing;
use crate::obstacle::Obstacle;

/// What stands in for a map, so that the instructions that name it still name one: an array of one word. These are the first words of
/// a map's definition (`bpf_map_def` of aya-ebpf-bindings): type, key size, value size, entries, flags.
const STAND_IN: [u32; 5] = [BPF_MAP_TYPE_ARRAY as u32, 4, 8, 1, 0];

/// A copy of an object in which the smallest of maps stands in for each of `unused`.
pub(super) fn without(object: &[u8], unused: &[&str]) -> Result<Vec<u8>, Obstacle> {
    let mut copy = object.to_vec();
    if unused.is_empty() {
        return Ok(copy);
    }
    let parsed = object::File::parse(object).map_err(|error| super::object::refused("the embedded object", &error))?;
    for name in unused {
        let place = definition(&parsed, name).ok_or_else(|| missing(&format!("map {name}")))?;
        let words: Vec<u8> = STAND_IN.iter().flat_map(|word| word.to_le_bytes()).collect();
        copy.get_mut(place..place + words.len()).ok_or_else(|| missing(&format!("map {name}")))?.copy_from_slice(&words);
    }
    Ok(copy)
}

/// Where in the file a map's definition is.
fn definition(object: &object::File<'_>, name: &str) -> Option<usize> {
    let symbol = object.symbols().find(|symbol| symbol.name() == Ok(name))?;
    let section = object.section_by_index(symbol.section_index()?).ok().filter(|section| section.name() == Ok("maps"))?;
    let (start, length) = section.file_range()?;
    let distance = symbol.address().checked_sub(section.address())?;
    let end = distance.checked_add(size_of_val(&STAND_IN) as u64)?;
    (end <= length).then_some(())?;
    usize::try_from(start + distance).ok()
}

#[cfg(test)]
mod tests {
    use aya_obj::Object;

    use super::*;
    use crate::probe::object::OBJECT;

    fn kind(object: &[u8], map: &str) -> (u32, u32) {
        let object = Object::parse(object).unwrap();
        let map = &object.maps[map];
        (map.map_type(), map.value_size())
    }

    #[test]
    fn only_the_maps_that_are_named_become_others() {
        let lean = without(OBJECT, &["EVENTS", "AYA_LOGS"]).unwrap();
        for map in ["EVENTS", "AYA_LOGS"] {
            assert_ne!(kind(OBJECT, map).0, STAND_IN[0]);
            assert_eq!(kind(&lean, map), (STAND_IN[0], STAND_IN[2]));
        }
        let of = |object: &[u8]| -> Vec<(String, u32, u32)> {
            let object = Object::parse(object).unwrap();
            let others = object.maps.iter().filter(|(name, _)| !["EVENTS", "AYA_LOGS"].contains(&name.as_str()));
            let mut others: Vec<_> = others.map(|(name, map)| (name.clone(), map.map_type(), map.value_size())).collect();
            others.sort();
            others
        };
        assert_eq!(of(&lean), of(OBJECT));
        assert!(of(OBJECT).len() > 10);
    }

    #[test]
    fn a_map_that_there_is_not_is_named() {
        assert!(without(OBJECT, &["NO_SUCH"]).unwrap_err().problem.contains("NO_SUCH"));
        assert!(without(OBJECT, &["shared_msr_exit"]).is_err(), "a program is no map");
    }
}
