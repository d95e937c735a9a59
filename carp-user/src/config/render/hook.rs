//! `[[hook]]` as it is written.

use super::super::Hook;
use super::super::reference::HOOK;
use super::{Form, Section, quoted};

pub(super) fn write(text: &mut String, form: Form, hook: &Hook) {
    // What the script is stands in [node.scripts].
    let Hook { name, script: _, timeout, when } = hook;
    let mut section = Section::begin(text, form, "[[hook]]", HOOK);
    section.put("script", quoted(name));
    section.put("when", quoted(when.name()));
    section.put("timeout", timeout);
    if let Some(passes) = when.passes_late() {
        section.put("on_timeout", quoted(if passes { "pass" } else { "veto" }));
    }
}
