//! The test vectors in `tests/data/carp-vectors.json`.

use carp_common::auth::{Key, Midstate, Variant};
use carp_common::id::{Mac, Vhid};
use carp_common::wire::{Advert, Envelope, Heard, Refusal};
use serde_json::Value;
use std::net::IpAddr;

/// One vector.
pub struct Vector(Value);

/// All vectors of a kind: `advertisement`, `injected`, `negative`.
pub fn all(kind: &str) -> Vec<Vector> {
    let file = file();
    let list = file["vectors"].as_array().expect("a list of vectors");
    list.iter().filter(|vector| vector["kind"] == kind).cloned().map(Vector).collect()
}

/// The advertisement or injected frame with this id.
pub fn get(id: &str) -> Vector {
    let kinds = ["advertisement", "injected"];
    kinds.into_iter().flat_map(all).find(|vector| vector.id() == id).expect("the vector is there")
}

/// The timer vectors.
pub fn timers() -> Vec<Value> {
    file()["timer_vectors"]["cases"].as_array().expect("a list of cases").clone()
}

/// Bytes from hexadecimal digits.
pub fn bytes(hex: &str) -> Vec<u8> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an even number of digits");
    let byte = |pair: &[u8; 2]| str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    pairs.iter().map(|pair| byte(pair).expect("hexadecimal digits")).collect()
}

/// The password of the injected frames' receiver.
pub fn injected_key() -> Key {
    Key::from_password(b"forge-me").expect("short")
}

/// What that receiver makes of a frame: virtual host 33 with 10.99.0.33. Whom it is addressed to is
/// for the node to judge, not here.
pub fn receive(frame: &[u8]) -> Option<Result<Advert, Refusal>> {
    let vips = ["10.99.0.33".parse().expect("an address")];
    Some(Heard::parse(frame)?.and_then(|Heard { advert, .. }| {
        if advert.vhid != vhid(33) {
            return Err(Refusal::BadVhid);
        }
        let state = Midstate::new(&injected_key(), Variant::Freebsd, None, advert.vhid, &vips);
        let good = state.verify(advert.counter.to_be_bytes(), &advert.digest);
        if good { Ok(advert) } else { Err(Refusal::BadAuth) }
    }))
}

impl Vector {
    pub fn id(&self) -> &str {
        self.text("id")
    }

    pub fn is_captured(&self) -> bool {
        self.0["provenance"] == "captured"
    }

    pub fn frame(&self) -> Vec<u8> {
        bytes(self.text("frame_hex"))
    }

    pub fn heard(&self) -> Heard {
        Heard::parse(&self.frame()).expect("protocol 112").expect("well-formed")
    }

    pub fn advert(&self) -> Advert {
        self.heard().advert
    }

    /// The message that is hashed.
    pub fn message(&self) -> Vec<u8> {
        bytes(self.text("hmac_message_hex"))
    }

    pub fn key(&self) -> Key {
        Key(bytes(self.0["params"]["key_hex"].as_str().expect("digits")).try_into().expect("20 bytes"))
    }

    pub fn password(&self) -> &str {
        self.0["params"]["password"].as_str().expect("a password")
    }

    /// In the order of the interface.
    pub fn vips(&self) -> Vec<IpAddr> {
        let params = &self.0["params"];
        let list = params["vips"].as_array().or(params["vips_interface_order"].as_array()).expect("VIPs");
        list.iter().map(|vip| vip.as_str().and_then(|vip| vip.parse().ok()).expect("an address")).collect()
    }

    pub fn lladdr(&self) -> Option<Mac> {
        let text = self.0["params"]["hashed_lladdr"].as_str()?;
        Some(Mac(bytes(&text.replace(':', "")).try_into().expect("six bytes")))
    }

    /// The variant that the sender used; `None` for captures, which list all that match instead.
    pub fn variant(&self) -> Option<Variant> {
        Variant::from_name(self.0["hmac_variant"].as_str()?)
    }

    /// The variants that are known to match a capture.
    pub fn matching(&self) -> Vec<Variant> {
        let list = self.0["hmac_variants_that_match"].as_array().expect("a list");
        list.iter().map(|name| name.as_str().and_then(Variant::from_name).expect("a variant")).collect()
    }

    /// Whether its digest holds by this variant.
    pub fn verifies(&self, variant: Variant) -> bool {
        verifies(&self.advert(), variant, &self.key(), self.lladdr(), &self.vips())
    }

    /// The frame that we would send with what this one says.
    pub fn resealed(&self) -> Vec<u8> {
        let Heard { source, destination, advert, .. } = self.heard();
        let frame = self.frame();
        // TOS lies in byte 1 of IPv4; the traffic class in the low and high nibbles of 0 and 1.
        let class = match source {
            IpAddr::V4(_) => frame[15],
            IpAddr::V6(_) => frame[14] << 4 | frame[15] >> 4,
        };
        let envelope = Envelope::to_node(source, destination, class).expect("one family");
        envelope.seal(&advert).bytes().to_vec()
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("a string")
    }
}

/// Whether an advertisement verifies, a variant that cannot hold these VIPs never.
pub fn verifies(advert: &Advert, variant: Variant, key: &Key, lladdr: Option<Mac>, vips: &[IpAddr]) -> bool {
    variant.can_hold(vips)
        && Midstate::new(key, variant, lladdr, advert.vhid, vips)
            .verify(advert.counter.to_be_bytes(), &advert.digest)
}

/// A virtual host id.
pub fn vhid(vhid: u8) -> Vhid {
    Vhid::new(vhid).expect("not zero")
}

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/carp-vectors.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    serde_json::from_str(&text).expect("they are JSON")
}
