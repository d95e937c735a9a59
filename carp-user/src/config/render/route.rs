//! `[[route]]` as it is written.

use super::super::reference::ROUTE;
use super::super::{Node, Route};
use super::{Form, Section, quoted, role};

pub(super) fn write(text: &mut String, form: Form, route: &Route, node: &Node) {
    let Route { device, to, via, source, metric } = route;
    let mut section = Section::begin(text, form, "[[route]]", ROUTE);
    section.put("to", if to.length() == 0 { quoted("default") } else { quoted(&to.to_string()) });
    section.put("via", quoted(&via.to_string()));
    section.put("interface", quoted(role(device, node)));
    if let Some(source) = source {
        section.put("source", quoted(&source.to_string()));
    }
    section.put("metric", metric);
}
