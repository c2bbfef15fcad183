//! The kernel's own count of an event by its fields.

use std::collections::BTreeMap;

use super::trace_instance::TraceInstance;

/// A trace instance with a `hist` trigger.
pub(crate) struct Histogram {
    instance: TraceInstance,
    event: String,
    keys: Vec<String>,
}

impl Histogram {
    /// Counts an event, `GROUP/NAME`, by these of its fields, from now on.
    pub(crate) fn start(event: &str, keys: &[&str], filter: Option<&str>) -> Self {
        let instance = TraceInstance::new(4);
        let filter = filter.map_or_else(String::new, |filter| format!(" if {filter}"));
        instance.write(&format!("events/{event}/trigger"), &format!("hist:keys={}{filter}", keys.join(",")));
        Self { instance, event: event.to_owned(), keys: keys.iter().map(|key| (*key).to_owned()).collect() }
    }

    /// How many there were, by the values of the fields in the order in which they were named.
    pub(crate) fn read(&self) -> BTreeMap<Vec<u64>, u64> {
        let text = self.instance.read(&format!("events/{}/hist", self.event));
        let dropped = text.lines().find_map(|line| line.trim().strip_prefix("Dropped: ")).map(|number| number.trim().to_owned());
        assert_eq!(dropped.as_deref(), Some("0"), "the kernel's histogram was too small: {text}");
        text.lines().filter(|line| line.starts_with('{')).map(|line| self.row(line)).collect()
    }

    /// `{ common_pid:        123, vcpu_id:          0 } hitcount:         52`
    fn row(&self, line: &str) -> (Vec<u64>, u64) {
        let (keys, hits) = line.trim_start_matches('{').split_once('}').unwrap();
        let values: BTreeMap<&str, u64> = keys
            .split(',')
            .map(|pair| {
                let (key, value) = pair.split_once(':').unwrap();
                (key.trim(), value.trim().parse().unwrap_or_else(|_| panic!("no number in {line}")))
            })
            .collect();
        let hits = hits.trim().strip_prefix("hitcount:").unwrap().trim().parse().unwrap();
        (self.keys.iter().map(|key| values[key.as_str()]).collect(), hits)
    }
}
