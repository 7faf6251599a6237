//! Slack's rules for messages.
//!
//! From <https://docs.slack.dev/reference/block-kit/blocks> and
//! <https://docs.slack.dev/reference/methods/chat.postMessage>. The limit on all
//! blocks together is not documented; it is what people measured (bolt-js #2509).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Findings, Violation};

const MAX_BLOCKS: usize = 50;
const MAX_BLOCK_ID: usize = 255;
const MAX_ALL_BLOCKS: usize = 13_000;
const MAX_TEXT: usize = 40_000;
const MAX_ATTACHMENTS: usize = 100;

/// What is wrong with a message's content.
pub fn violations(message: &Value) -> Vec<Violation> {
    let mut findings = Findings::default();
    text_argument(&mut findings, message);
    if let Some(blocks) = message.get("blocks") {
        self::blocks(&mut findings, blocks, "/blocks");
    }
    match message.get("attachments") {
        None => {}
        Some(Value::Array(attachments)) => {
            findings.check(attachments.len() <= MAX_ATTACHMENTS, "/attachments", || {
                format!("{} attachments, {MAX_ATTACHMENTS} at most", attachments.len())
            });
            for (i, attachment) in attachments.iter().enumerate() {
                if let Some(blocks) = attachment.get("blocks") {
                    self::blocks(&mut findings, blocks, &format!("/attachments/{i}/blocks"));
                }
            }
        }
        Some(_) => findings.add("/attachments", "is not a list"),
    }
    metadata(&mut findings, message);
    findings.into_vec()
}

fn text_argument(findings: &mut Findings, message: &Value) {
    match message.get("text") {
        None | Some(Value::Null) => findings.check(message.get("blocks").is_none(), "/text", || {
            "is missing: with blocks it is what notifications and screen readers say".to_owned()
        }),
        Some(Value::String(text)) => {
            findings.check(text.chars().count() <= MAX_TEXT, "/text", || format!("longer than {MAX_TEXT} characters"));
            mentions(findings, text, "/text");
        }
        Some(_) => findings.add("/text", "is not a text"),
    }
}

/// Calling everybody is a person's right; from an alert's label it would be an attack.
fn mentions(findings: &mut Findings, text: &str, at: &str) {
    for mention in ["<!channel", "<!here", "<!everyone", "<!subteam"] {
        findings.check(!text.contains(mention), at, || format!("calls everybody: {mention}>"));
    }
}

fn metadata(findings: &mut Findings, message: &Value) {
    let Some(metadata) = message.get("metadata") else { return };
    let event = metadata["event_type"].as_str().unwrap_or_default();
    findings.check(!event.is_empty(), "/metadata/event_type", || "is missing".to_owned());
    findings.check(metadata["event_payload"].is_object(), "/metadata/event_payload", || "is not an object".to_owned());
}

fn blocks(findings: &mut Findings, blocks: &Value, at: &str) {
    let Some(blocks) = blocks.as_array() else { return findings.add(at, "is not a list") };
    findings.check(blocks.len() <= MAX_BLOCKS, at, || format!("{} blocks, {MAX_BLOCKS} at most", blocks.len()));
    findings.check(!blocks.is_empty(), at, || "is empty".to_owned());
    let mut ids = BTreeSet::new();
    let mut all = 0;
    for (i, block) in blocks.iter().enumerate() {
        let at = format!("{at}/{i}");
        all += characters(block);
        if let Some(id) = block.get("block_id") {
            let id = id.as_str().unwrap_or_default();
            findings.check(!id.is_empty() && id.chars().count() <= MAX_BLOCK_ID, &format!("{at}/block_id"), || {
                format!("must have 1 to {MAX_BLOCK_ID} characters")
            });
            findings.check(ids.insert(id.to_owned()), &format!("{at}/block_id"), || "is used twice".to_owned());
        }
        self::block(findings, block, &at);
    }
    findings.check(all <= MAX_ALL_BLOCKS, at, || {
        format!("msg_blocks_too_long: {all} characters in all blocks, about {MAX_ALL_BLOCKS} at most")
    });
}

/// Of everything that is shown.
fn characters(value: &Value) -> usize {
    match value {
        Value::Object(object) => {
            let own = object.get("text").and_then(Value::as_str).map_or(0, |t| t.chars().count());
            own + object.values().map(characters).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(characters).sum(),
        _ => 0,
    }
}

fn block(findings: &mut Findings, block: &Value, at: &str) {
    let Some(object) = block.as_object() else { return findings.add(at, "is not an object") };
    let allowed: &[&str] = match block["type"].as_str().unwrap_or_default() {
        "section" => {
            section(findings, block, at);
            &["text", "fields", "accessory", "expand"]
        }
        "header" => {
            text(findings, block.get("text"), &format!("{at}/text"), 150, Form::Plain);
            &["text"]
        }
        "context" => {
            context(findings, block, at);
            &["elements"]
        }
        "actions" => {
            actions(findings, block, at);
            &["elements"]
        }
        "image" => {
            image(findings, block, at);
            &["image_url", "slack_file", "alt_text", "title"]
        }
        "divider" => &[],
        // Taken as they are: nothing here sends them.
        "rich_text" | "markdown" | "table" | "video" | "file" | "input" | "context_actions" => return,
        "" => return findings.add(format!("{at}/type"), "is missing"),
        other => return findings.add(format!("{at}/type"), format!("unsupported type: {other}")),
    };
    for key in object.keys().filter(|k| !allowed.contains(&k.as_str()) && *k != "type" && *k != "block_id") {
        findings.add(format!("{at}/{key}"), "invalid additional property");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Any,
}

fn text(findings: &mut Findings, object: Option<&Value>, at: &str, max: usize, form: Form) {
    let Some(object) = object else { return findings.add(at, "is missing") };
    let kind = object["type"].as_str().unwrap_or_default();
    let known = kind == "plain_text" || (kind == "mrkdwn" && form == Form::Any);
    findings.check(known, &format!("{at}/type"), || format!("a text object of type '{kind}' is not allowed here"));
    findings.check(kind != "mrkdwn" || object.get("emoji").is_none(), &format!("{at}/emoji"), || {
        "is for plain_text only".to_owned()
    });
    match object["text"].as_str() {
        None => findings.add(format!("{at}/text"), "is not a text"),
        Some(text) => {
            let length = text.chars().count();
            findings.check(length > 0, &format!("{at}/text"), || "must be more than 0 characters".to_owned());
            findings.check(length <= max, &format!("{at}/text"), || {
                format!("must be less than {} characters, it has {length}", max + 1)
            });
            if kind == "mrkdwn" {
                mentions(findings, text, &format!("{at}/text"));
            }
        }
    }
}

fn list<'a>(findings: &mut Findings, value: &'a Value, at: &str, max: usize) -> &'a [Value] {
    let Some(items) = value.as_array() else {
        findings.add(at, "is not a list");
        return &[];
    };
    findings.check(!items.is_empty() && items.len() <= max, at, || format!("must have 1 to {max} items"));
    items
}

fn section(findings: &mut Findings, block: &Value, at: &str) {
    let (has_text, fields) = (block.get("text").is_some(), block.get("fields"));
    findings.check(has_text || fields.is_some(), at, || "needs text or fields".to_owned());
    if has_text {
        text(findings, block.get("text"), &format!("{at}/text"), 3000, Form::Any);
    }
    if let Some(fields) = fields {
        for (i, field) in list(findings, fields, &format!("{at}/fields"), 10).iter().enumerate() {
            text(findings, Some(field), &format!("{at}/fields/{i}"), 2000, Form::Any);
        }
    }
    if let Some(accessory) = block.get("accessory") {
        element(findings, accessory, &format!("{at}/accessory"));
    }
}

fn context(findings: &mut Findings, block: &Value, at: &str) {
    for (i, item) in list(findings, &block["elements"], &format!("{at}/elements"), 10).iter().enumerate() {
        let at = format!("{at}/elements/{i}");
        match item["type"].as_str() {
            Some("image") => image(findings, item, &at),
            _ => text(findings, Some(item), &at, 3000, Form::Any),
        }
    }
}

fn actions(findings: &mut Findings, block: &Value, at: &str) {
    let mut ids = BTreeSet::new();
    for (i, item) in list(findings, &block["elements"], &format!("{at}/elements"), 25).iter().enumerate() {
        let at = format!("{at}/elements/{i}");
        element(findings, item, &at);
        if let Some(id) = item["action_id"].as_str() {
            findings.check(ids.insert(id), &format!("{at}/action_id"), || "is used twice in its block".to_owned());
        }
    }
}

fn element(findings: &mut Findings, item: &Value, at: &str) {
    match item["type"].as_str().unwrap_or_default() {
        "button" => {
            text(findings, item.get("text"), &format!("{at}/text"), 75, Form::Plain);
            for (key, max) in [("action_id", 255), ("url", 3000), ("value", 2000), ("accessibility_label", 75)] {
                if let Some(value) = item.get(key) {
                    let length = value.as_str().map_or(0, |v| v.chars().count());
                    findings.check((1..=max).contains(&length), &format!("{at}/{key}"), || {
                        format!("must have 1 to {max} characters")
                    });
                }
            }
            if let Some(url) = item.get("url").and_then(Value::as_str) {
                findings.check(is_web_address(url), &format!("{at}/url"), || "is not a web address".to_owned());
            }
            if let Some(style) = item.get("style") {
                findings.check(["primary", "danger"].contains(&style.as_str().unwrap_or_default()), at, || {
                    "style must be primary or danger".to_owned()
                });
            }
        }
        "image" => image(findings, item, at),
        "" => findings.add(format!("{at}/type"), "is missing"),
        // Menus and pickers: nothing here sends them.
        _ => {}
    }
}

fn is_web_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|r| !r.is_empty()) && !url.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn image(findings: &mut Findings, block: &Value, at: &str) {
    let has = |key: &str, max: usize| block[key].as_str().is_some_and(|text| (1..=max).contains(&text.chars().count()));
    findings.check(has("alt_text", 2000), &format!("{at}/alt_text"), || "must have 1 to 2000 characters".to_owned());
    findings.check(has("image_url", 3000) || block.get("slack_file").is_some(), &format!("{at}/image_url"), || {
        "must have 1 to 3000 characters".to_owned()
    });
    if block.get("title").is_some() {
        text(findings, block.get("title"), &format!("{at}/title"), 2000, Form::Plain);
    }
}

/// A channel's id for its name, always the same; an id is its own.
pub fn channel_id(channel: &str) -> String {
    if is_channel_id(channel) {
        return channel.to_owned();
    }
    let name = channel.trim_start_matches('#');
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("C{:010X}", hash & 0xff_ffff_ffff)
}

/// `C0123456789`: what `chat.update` wants.
pub fn is_channel_id(channel: &str) -> bool {
    let rest = channel.strip_prefix(['C', 'G', 'D']);
    rest.is_some_and(|r| r.len() >= 8 && r.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(blocks: Value) -> Vec<String> {
        let message = json!({"text": "t", "blocks": blocks});
        violations(&message).into_iter().map(|v| format!("{} {}", v.at, v.what)).collect()
    }

    fn plain(text: &str) -> Value {
        json!({"type": "plain_text", "text": text})
    }

    #[test]
    fn what_slack_takes_is_taken() {
        let full = json!([
            {"type": "header", "text": plain(&"x".repeat(150))},
            {"type": "divider"},
            {"type": "section", "text": {"type": "mrkdwn", "text": "ä".repeat(3000)}, "fields": vec![plain("f"); 10]},
            {"type": "actions", "elements": [{"type": "button", "text": plain("Open"), "url": "https://x/", "action_id": "a", "style": "primary"}]},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": "id"}, {"type": "image", "image_url": "https://x/i.png", "alt_text": "i"}]},
        ]);
        assert_eq!(of(full), Vec::<String>::new());
        assert_eq!(violations(&json!({"text": "plain"})), []);
    }

    #[test]
    fn each_limit_is_named_with_its_place() {
        let long = |n: usize| "x".repeat(n);
        for (blocks, says) in [
            (json!(vec![json!({"type": "divider"}); 51]), "/blocks 51 blocks"),
            (json!([]), "/blocks is empty"),
            (json!("x"), "/blocks is not a list"),
            (json!([{"type": "header", "text": plain(&long(151))}]), "/blocks/0/text/text must be less than 151"),
            (json!([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]), "/blocks/0/text/type"),
            (json!([{"type": "header"}]), "/blocks/0/text is missing"),
            (json!([{"type": "section", "text": {"type": "mrkdwn", "text": long(3001)}}]), "less than 3001"),
            (json!([{"type": "section", "text": {"type": "mrkdwn", "text": ""}}]), "more than 0"),
            (json!([{"type": "section"}]), "needs text or fields"),
            (json!([{"type": "section", "fields": vec![plain("f"); 11]}]), "/blocks/0/fields must have 1 to 10"),
            (json!([{"type": "section", "fields": [plain(&long(2001))]}]), "/blocks/0/fields/0/text"),
            (json!([{"type": "section", "text": plain("x"), "colour": "red"}]), "/blocks/0/colour invalid additional"),
            (json!([{"type": "section", "text": {"type": "mrkdwn", "text": "<!channel> fire"}}]), "calls everybody"),
            (json!([{"type": "actions", "elements": [{"type": "button", "text": plain(&long(76))}]}]), "less than 76"),
            (
                json!([{"type": "actions", "elements": [{"type": "button", "text": plain("x"), "url": "javascript:1"}]}]),
                "not a web address",
            ),
            (json!([{"type": "actions", "elements": []}]), "1 to 25"),
            (json!([{"type": "context", "elements": vec![plain("x"); 11]}]), "1 to 10"),
            (json!([{"type": "marquee"}]), "unsupported type: marquee"),
            (json!([{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}]), "used twice"),
            (json!(vec![json!({"type": "section", "text": plain(&long(2900))}); 5]), "msg_blocks_too_long"),
        ] {
            let found = of(blocks);
            assert!(found.iter().any(|v| v.contains(says)), "no '{says}' in {found:?}");
        }
        assert_eq!(violations(&json!({"blocks": [{"type": "divider"}]}))[0].at, "/text");
        assert_eq!(violations(&json!({"text": "t", "metadata": {}})).len(), 2);
    }

    #[test]
    fn a_channel_has_one_id() {
        let id = channel_id("#alerts");
        assert!(is_channel_id(&id), "{id}");
        assert_eq!((channel_id("alerts"), channel_id(&id)), (id.clone(), id));
        assert!(!is_channel_id("#alerts") && !is_channel_id("Calm"));
    }

    proptest::proptest! {
        #[test]
        fn any_json_is_judged(text in "\\PC{0,40}", n in 0_usize..60) {
            let _ = violations(&json!({"text": text, "blocks": vec![json!({"type": "section", "text": {"text": text}}); n]}));
            let _ = violations(&json!([text]));
        }
    }
}
