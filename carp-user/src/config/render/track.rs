//! `[[track]]` as it is written.

use super::super::Track;
use super::super::reference::TRACK;
use super::super::track::Probe;
use super::{Form, Section, quoted};

pub(super) fn write(text: &mut String, form: Form, track: &Track) {
    let Track { name, probe, demote, interval, timeout, rise, fall } = track;
    let mut section = Section::begin(text, form, "[[track]]", TRACK);
    section.put("name", quoted(name));
    section.put("kind", quoted(probe.kind()));
    match probe {
        // What it is stands in [node.scripts].
        Probe::Script { name, script: _ } => section.put("script", quoted(name)),
        Probe::Gateway { interface, device: _, address } => {
            section.put("interface", quoted(interface));
            section.put("address", quoted(&address.to_string()));
        }
        Probe::Process { process } => section.put("process", quoted(process)),
        Probe::Unit { unit } => section.put("unit", quoted(unit)),
        Probe::File { file, exists } => {
            section.put_file("file", Some(file));
            section.put("exists", exists);
        }
        Probe::Interface { interface, device: _, errors } => {
            section.put("interface", quoted(interface));
            if let Some(errors) = errors {
                section.put("errors", errors);
            }
        }
        Probe::WakeUps { most } => section.put("most", most),
    }
    section.put("demote", demote);
    section.put("interval", interval);
    section.put("timeout", timeout);
    section.put("rise", rise);
    section.put("fall", fall);
}
