//! XML-RPC as text: calls that strangers send, within bounds, and answers. The codec is the crate `dxr`; what it is given has
//! been looked through before, as it sets no bounds of its own. Its errors contain what was sent, passwords too, so none of
//! their words is passed on.

use super::remote::{Code, Fault};
use dxr::{FaultResponse, MethodCall, MethodResponse, Value};
use quick_xml::Reader;
use quick_xml::events::Event;
use std::borrow::Cow;

/// Longest document, bytes: more than the largest configuration in base64. Policy: a longer one is refused unread.
pub const MOST_BYTES: usize = 8 << 20;
/// Most elements within each other: an array in another one takes three. Policy: a deeper document is refused.
const MOST_DEEP: usize = 48;
/// Most elements of a document. Policy: one with more is refused.
const MOST_ELEMENTS: usize = 20_000;

/// What somebody calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Name of the method.
    pub method: String,
    /// What it is given.
    pub params: Vec<Value>,
}

/// A call from what came.
///
/// # Errors
/// [`Code::NotWellFormed`], [`Code::Encoding`], [`Code::NotXmlRpc`]; the words are always the same.
pub fn read_call(bytes: &[u8]) -> Result<Call, Fault> {
    let text = checked(bytes)?;
    let MethodCall { name, params } = MethodCall::from_xml(text).map_err(|_| {
        Fault::new(Code::NotXmlRpc, "this is no methodCall of XML-RPC: see its specification")
    })?;
    Ok(Call { method: name.into_owned(), params })
}

/// The call as text.
///
/// # Errors
/// [`Code::Internal`], when a value cannot be written.
pub fn write_call(method: &str, params: Vec<Value>) -> Result<String, Fault> {
    MethodCall { name: Cow::Borrowed(method), params }.to_xml().map(with_head).map_err(|_| unwritable())
}

/// The answer, or what the other side refuses.
///
/// # Errors
/// The other side's fault; [`Code::NotXmlRpc`] and the like for what is no answer.
pub fn read_answer(bytes: &[u8]) -> Result<Value, Fault> {
    let text = checked(bytes)?;
    if let Ok(answer) = MethodResponse::from_xml(text) {
        return Ok(answer.value);
    }
    let fault = FaultResponse::from_xml(text)
        .map_err(|_| Fault::new(Code::NotXmlRpc, "the answer is no methodResponse of XML-RPC"))?;
    Err(Fault { code: fault.fault.code(), message: fault.fault.string().to_owned() })
}

/// An answer as text, which always can be written.
pub fn write_answer(answer: Result<Value, Fault>) -> String {
    let written = answer.and_then(|value| MethodResponse { value }.to_xml().map_err(|_| unwritable()));
    written.or_else(|fault| write_fault(&fault)).map_or_else(|_| String::new(), with_head)
}

fn write_fault(fault: &Fault) -> Result<String, dxr::Error> {
    FaultResponse { fault: dxr::Fault::new(fault.code, fault.message.clone()) }.to_xml()
}

fn unwritable() -> Fault {
    Fault::new(Code::Internal, "this answer cannot be written as XML-RPC")
}

/// What XML has no way to write, as a mistake that quotes somebody may contain it, becomes U+FFFD.
fn with_head(document: String) -> String {
    let is_forbidden = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || ['\u{fffe}', '\u{ffff}'].contains(&c);
    let document = document.replace(is_forbidden, "\u{fffd}");
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{document}")
}

/// The document as text, when it is well-formed, declares nothing, and is within bounds.
fn checked(bytes: &[u8]) -> Result<&str, Fault> {
    let wrong = |what| Fault::new(Code::NotWellFormed, what);
    if bytes.len() > MOST_BYTES {
        return Err(wrong("the document is too long"));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| Fault::new(Code::Encoding, "the document is not UTF-8"))?;
    let mut reader = Reader::from_str(text);
    let (mut depth, mut elements) = (0_usize, 0_usize);
    loop {
        match reader.read_event().map_err(|_| wrong("the document is not well-formed"))? {
            Event::Start(_) => {
                depth += 1;
                elements += 1;
            }
            Event::Empty(_) => elements += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Decl(decl) => {
                let encoding = decl.encoding().and_then(Result::ok).unwrap_or(Cow::Borrowed("utf-8"));
                if !encoding.eq_ignore_ascii_case("utf-8") && !encoding.eq_ignore_ascii_case("us-ascii") {
                    return Err(Fault::new(Code::Encoding, "write the document in UTF-8"));
                }
            }
            // It could name others, each ten times the one before.
            Event::DocType(_) => return Err(wrong("no DOCTYPE: entities are not expanded")),
            Event::PI(_) => return Err(wrong("no processing instructions")),
            Event::Text(_) | Event::CData(_) | Event::Comment(_) | Event::GeneralRef(_) => {}
            Event::Eof if depth > 0 => return Err(wrong("the document ends too early")),
            Event::Eof => return Ok(text),
        }
        if depth > MOST_DEEP || elements > MOST_ELEMENTS {
            return Err(wrong("the document has too many elements, or too many within each other"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(params: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>carp.x</methodName>\n<params>\n{params}</params>\n</methodCall>\n"
        )
    }

    fn code(document: &[u8]) -> i32 {
        read_call(document).expect_err("refused").code
    }

    #[test]
    fn every_type_of_the_specification_is_read_and_written_again() {
        let all = "<param><value><array><data><value><int>-7</int></value><value><i4>7</i4></value>\
            <value><boolean>1</boolean></value><value>plain</value><value><string>a &amp; b &#228;</string></value>\
            <value><double>-1.5</double></value><value><dateTime.iso8601>20261130T01:02:03</dateTime.iso8601></value>\
            <value><base64>AAEC</base64></value><value><struct><member><name>k</name><value><i4>1</i4></value></member>\
            </struct></value></data></array></value></param>";
        let read = read_call(call(all).as_bytes()).expect("right");
        assert_eq!(read.method, "carp.x");
        let [Value::Array(values)] = &read.params[..] else { panic!("{read:?}") };
        assert_eq!(values.len(), 9);
        assert_eq!(values[4], Value::String("a & b ä".to_owned()));
        assert_eq!(values[7], Value::Base64(vec![0, 1, 2]));
        let again = write_call(&read.method, read.params.clone()).expect("written");
        assert_eq!(read_call(again.as_bytes()).expect("right"), read);
    }

    #[test]
    fn an_answer_and_a_fault_come_back_as_they_were() {
        let value = Value::String("<&\">\u{e4}".to_owned());
        assert_eq!(read_answer(write_answer(Ok(value.clone())).as_bytes()), Ok(value));
        let fault = Fault::new(Code::Refused, "no <such> thing");
        assert_eq!(read_answer(write_answer(Err(fault.clone())).as_bytes()), Err(fault));
        let odd = Err(Fault::new(Code::Refused, "no \u{1}\u{1b}[2J"));
        assert!(write_answer(odd).contains("no \u{fffd}\u{fffd}[2J"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused_by_a_code_of_ours(
            parts in proptest::collection::vec((0..PARTS.len(), proptest::prelude::any::<[u8; 3]>()), 0..60)
        ) {
            let pieces = parts.iter().flat_map(|(part, odd)| {
                // Now and then a few bytes of anything between words that fit.
                let odd = if odd[0] < 16 { &odd[1..] } else { &[] };
                [PARTS[*part].as_bytes(), odd].concat()
            });
            let document: Vec<u8> = pieces.collect();
            match read_call(&document) {
                Ok(call) => proptest::prop_assert!(write_call(&call.method, call.params).is_ok()),
                Err(fault) => proptest::prop_assert!(Code::ALL.iter().any(|code| fault.is(*code))),
            }
            let _ = read_answer(&document);
        }
    }

    const PARTS: [&str; 24] = [
        "<methodCall>",
        "</methodCall>",
        "<methodName>carp.version</methodName>",
        "<params>",
        "</params>",
        "<param>",
        "</param>",
        "<value>",
        "</value>",
        "<array><data>",
        "</data></array>",
        "<struct>",
        "</struct>",
        "<member>",
        "</member>",
        "<name>a</name>",
        "<i4>7</i4>",
        "<string>",
        "</string>",
        "<base64>AAEC</base64>",
        "&amp;",
        "&#0;",
        "<![CDATA[<]]>",
        "<!-- -->",
    ];

    #[test]
    fn bombs_of_every_kind_are_refused_without_a_word_of_what_they_said() {
        let deep = call(&format!("<param>{}</param>", "<value><array><data>".repeat(20_000)));
        let many = call(&"<param><value/></param>".repeat(20_000));
        let entities = format!("<!DOCTYPE lolz [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>{}", call(""));
        for bomb in [
            deep,
            many,
            entities,
            "<methodCall>".to_owned(),
            "<a></b>".to_owned(),
            " ".repeat(MOST_BYTES + 1),
        ] {
            assert_eq!(code(bomb.as_bytes()), Code::NotWellFormed.number());
        }
        assert_eq!(code(b"<methodCall>\xff</methodCall>"), Code::Encoding.number());
        assert_eq!(
            code("<?xml version='1.0' encoding='utf-16'?><methodCall/>".as_bytes()),
            Code::Encoding.number()
        );
        for no_call in
            ["", "hello", "<methodResponse/>", &call("<param><value><i4>secret</i4></value></param>")]
        {
            let fault = read_call(no_call.as_bytes()).expect_err("no call");
            assert!(fault.code == Code::NotXmlRpc.number() && !fault.message.contains("secret"), "{fault:?}");
        }
        let undefined = call("<param><value>&lol;</value></param>");
        assert_eq!(code(undefined.as_bytes()), Code::NotXmlRpc.number());
    }
}
