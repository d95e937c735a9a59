//! The table of all keys as a JSON schema, for editors and for programs that write configurations.

use super::hook::Hook;
use super::nat::Nat;
use super::nat::keys::{FIREWALL, FORWARD, ONE_TO_ONE, OUTBOUND, PREFIX};
use super::reference::{
    CONFIG_SYNC, CONFIG_SYNC_INTRO, GROUP, GROUP_INTRO, HOST_INTRO, KERNEL, KERNEL_INTRO, ROUTE, ROUTE_INTRO,
    VIRTUAL_HOST,
};
use super::reference::{FIREWALL_INTRO, FORWARD_INTRO, ONE_TO_ONE_INTRO, OUTBOUND_INTRO, PREFIX_INTRO};
use super::reference::{HOOK, HOOK_INTRO, SCRIPT, SCRIPT_INTRO, TRACK, TRACK_INTRO};
use super::reference::{Key, Kind, NODE, NODE_INTRO, RULE, RULE_INTRO, SYNC, SYNC_INTRO};
use super::route::Route;
use crate::proto::sync::rule::Rules;
use crate::proto::track;
use serde_json::{Map, Value, json};

/// JSON schema (draft 2020-12) of the shared file and of the node's own: the content of
/// `docs/config.schema.json`. It knows keys, types, numbers and words; what `carpctl check` says besides, it does not.
pub fn schema() -> String {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of carpd: carp.toml, node.toml",
        "type": "object",
        "additionalProperties": false,
        // None is required: each of the two files has its own.
        "properties": {
            "node": table(NODE_INTRO, NODE),
            "sync": table(SYNC_INTRO, SYNC),
            "config_sync": table(CONFIG_SYNC_INTRO, CONFIG_SYNC),
            "group": { "type": "array", "items": table(GROUP_INTRO, GROUP) },
            "virtual_host": { "type": "array", "items": table(HOST_INTRO, VIRTUAL_HOST) },
            "route": list(Route::MOST, ROUTE_INTRO, ROUTE),
            "nat": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "outbound": list(Nat::MOST, OUTBOUND_INTRO, OUTBOUND),
                    "forward": list(Nat::MOST, FORWARD_INTRO, FORWARD),
                    "one_to_one": list(Nat::MOST, ONE_TO_ONE_INTRO, ONE_TO_ONE),
                    "prefix": list(Nat::MOST, PREFIX_INTRO, PREFIX),
                },
            },
            "firewall": table(FIREWALL_INTRO, FIREWALL),
            "kernel": table(KERNEL_INTRO, KERNEL),
            "track": list(track::MOST, TRACK_INTRO, TRACK),
            "hook": list(Hook::MOST, HOOK_INTRO, HOOK),
        },
    });
    format!("{schema:#}\n")
}

fn list(most: usize, intro: &str, keys: &[Key]) -> Value {
    json!({ "type": "array", "maxItems": most, "items": table(intro, keys) })
}

fn table(intro: &str, keys: &[Key]) -> Value {
    let required: Vec<&str> = keys.iter().filter(|key| key.default.is_empty()).map(|key| key.name).collect();
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    json!({
        "description": intro,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn property(key: &Key) -> Value {
    let Key { name: _, kind, range, unit, default, example, meaning } = key;
    let mut property = kind_of(*kind);
    let unit = if unit.is_empty() { String::new() } else { format!(" Unit: {unit}.") };
    let range = if range.is_empty() { String::new() } else { format!(" Range: {range}.") };
    property["description"] = format!("{meaning}{range}{unit}").into();
    property["examples"] = value(example).into_iter().collect();
    // One that is said in words ("none") is no TOML: then nothing counts.
    if let Some(default) = value(default) {
        property["default"] = default;
    }
    property
}

fn kind_of(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number(least, most, _) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Choice(names) => json!({ "type": "string", "enum": names }),
        Kind::List => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Names => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Rules => json!({ "type": "array", "maxItems": Rules::MOST, "items": table(RULE_INTRO, RULE) }),
        Kind::Scripts => json!({ "type": "object", "additionalProperties": table(SCRIPT_INTRO, SCRIPT) }),
        Kind::Numbers => json!({ "type": ["integer", "string"] }),
    }
}

/// What this text is as the value of a key.
fn value(text: &str) -> Option<Value> {
    let table: toml::Table = format!("it = {text}").parse().ok()?;
    serde_json::to_value(table.get("it")?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::reference::{EXAMPLE, TOP};
    use super::*;

    /// Whether a schema that uses nothing but the words of this module takes the value.
    fn takes(schema: &Value, value: &Value) -> bool {
        let of_type = |name: &Value| match name.as_str().expect("a name") {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other} is no type"),
        };
        let types = &schema["type"];
        let member = |(name, value): (&String, &Value)| match schema["properties"].get(name) {
            Some(known) => takes(known, value),
            None => {
                let others = &schema["additionalProperties"];
                others.as_bool().unwrap_or_else(|| takes(others, value))
            }
        };
        let number = value.as_i64().unwrap_or(0);
        types.as_array().map_or_else(|| of_type(types), |types| types.iter().any(of_type))
            && schema["enum"].as_array().is_none_or(|names| names.contains(value))
            && schema["minimum"].as_i64().is_none_or(|least| number >= least)
            && schema["maximum"].as_i64().is_none_or(|most| number <= most)
            && value.as_array().is_none_or(|all| all.iter().all(|one| takes(&schema["items"], one)))
            && value.as_object().is_none_or(|all| all.iter().all(member))
            && schema["required"]
                .as_array()
                .is_none_or(|keys| keys.iter().all(|key| value.get(key.as_str().expect("a name")).is_some()))
    }

    fn parsed() -> Value {
        serde_json::from_str(&schema()).expect("it is JSON")
    }

    fn taken(text: &str) -> bool {
        let table: toml::Table = text.parse().expect("it is TOML");
        takes(&parsed(), &serde_json::to_value(table).expect("it has no dates"))
    }

    #[test]
    fn every_key_of_the_reference_is_in_the_schema_and_nothing_else() {
        let schema = parsed();
        let names = |table: &Value| {
            table["properties"].as_object().expect("keys").keys().cloned().collect::<Vec<_>>()
        };
        let mut all = TOP.to_vec();
        all.sort_unstable();
        assert_eq!(names(&schema), all);
        let top = &schema["properties"];
        let rule = &top["sync"]["properties"]["exclude"]["items"];
        for (table, keys) in [
            (&top["node"], NODE),
            (&top["sync"], SYNC),
            (&top["config_sync"], CONFIG_SYNC),
            (&top["virtual_host"]["items"], VIRTUAL_HOST),
            (&top["route"]["items"], ROUTE),
            (rule, RULE),
            (&top["nat"]["properties"]["outbound"]["items"], OUTBOUND),
            (&top["nat"]["properties"]["forward"]["items"], FORWARD),
            (&top["nat"]["properties"]["one_to_one"]["items"], ONE_TO_ONE),
            (&top["nat"]["properties"]["prefix"]["items"], PREFIX),
            (&top["firewall"], FIREWALL),
            (&top["kernel"], KERNEL),
            (&top["track"]["items"], TRACK),
            (&top["hook"]["items"], HOOK),
            (&top["node"]["properties"]["scripts"]["additionalProperties"], SCRIPT),
        ] {
            let mut expected: Vec<&str> = keys.iter().map(|key| key.name).collect();
            expected.sort_unstable();
            assert_eq!(names(table), expected);
            assert_eq!(table["additionalProperties"], false);
            for key in keys {
                let property = &table["properties"][key.name];
                let required = table["required"].as_array().expect("a list").contains(&key.name.into());
                assert_eq!(required, key.default.is_empty(), "{}", key.name);
                assert!(takes(property, &property["examples"][0]), "{}: {property}", key.name);
                assert!(property["description"].as_str().expect("words").contains(key.meaning));
                match key.kind {
                    // One that is said in words is not one of the numbers.
                    Kind::Number(_, _, Some(_)) if value(key.default).is_none() => {}
                    Kind::Number(_, _, default) => {
                        assert_eq!(property.get("default"), default.map(Value::from).as_ref());
                    }
                    Kind::Choice(names) => assert_eq!(property["default"], names[0]),
                    Kind::Text
                    | Kind::Flag
                    | Kind::List
                    | Kind::Names
                    | Kind::Rules
                    | Kind::Scripts
                    | Kind::Numbers => {}
                }
            }
        }
    }

    #[test]
    fn the_example_is_taken_and_slips_are_not() {
        assert!(taken(EXAMPLE));
        assert!(taken("[node]\nname = \"gw1\"\n"), "the node's own file");
        for (right, wrong) in [
            ("vhid = 1", "vhid = 256"),
            ("vhid = 1", "vhid = \"1\""),
            ("vhid = 1\n", ""),
            ("skew = 0", "skeww = 0"),
            ("[sync]", "[sink]"),
            ("wan = \"eth0\"", "wan = 0"),
            ("[\"192.0.2.1/24\"]", "\"192.0.2.1/24\""),
            ("skew = 0", "xdp = \"fast\""),
        ] {
            assert!(!taken(&EXAMPLE.replacen(right, wrong, 1)), "{wrong}");
        }
    }
}
