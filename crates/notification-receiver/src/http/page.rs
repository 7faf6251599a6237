//! The page, rendered on the server; a script only keeps it fresh. Its links are
//! relative, so that a gateway may show it below a path.

use std::fmt::Write;

use time::{format_description::BorrowedFormatItem, macros::format_description};

use crate::{notification::Channel, store::Notification};

const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");

/// The whole page.
pub fn render(threads: &[Vec<Notification>], total: usize, channel: Option<Channel>) -> String {
    let newest = threads.iter().flatten().map(|n| n.id).max().unwrap_or(0);
    let edits: u32 = threads.iter().flatten().map(|n| n.edits).sum();
    let mut cards = String::new();
    for thread in threads {
        match thread.as_slice() {
            [] => {}
            [one] => card(&mut cards, one),
            [first, replies @ ..] => {
                cards.push_str(r#"<section class="thread">"#);
                card(&mut cards, first);
                let word = if replies.len() == 1 { "reply" } else { "replies" };
                let _ = write!(cards, r#"<div class="replies"><p class="count">{} {word}</p>"#, replies.len());
                replies.iter().for_each(|n| card(&mut cards, n));
                cards.push_str("</div></section>");
            }
        }
    }
    if cards.is_empty() {
        cards.push_str(
            r#"<p class="empty">Nothing has been sent yet. What Alertmanager and the alert-bot send by Slack, mail or webhook shows here.</p>"#,
        );
    }
    let mut filters = String::new();
    for (name, target, own) in
        [("All", "./", None), ("Slack", "./?channel=slack", Some(Channel::Slack))].into_iter().chain([
            ("Mail", "./?channel=email", Some(Channel::Email)),
            ("Webhook", "./?channel=webhook", Some(Channel::Webhook)),
        ])
    {
        let current = if own == channel { r#" aria-current="page""# } else { "" };
        let _ = write!(filters, r#"<a href="{target}"{current}>{name}</a>"#);
    }
    let shown = threads.iter().map(Vec::len).sum::<usize>();
    let count = if shown < total { format!("the newest {shown} of {total}") } else { format!("{total}") };
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Notifications ({total})</title>
<link rel="stylesheet" href="assets/style.css">
<script src="assets/app.js" defer></script>
</head>
<body>
<header>
<h1>Notifications</h1>
<p>What would have left this machine. Nothing here was sent to anyone.</p>
<nav aria-label="Channels">{filters}</nav>
<button id="clear" type="button" hidden>Clear all</button>
</header>
<main id="list" data-newest="{newest}" data-edits="{edits}">
<p class="count" role="status">{count} kept</p>
{cards}
</main>
</body>
</html>
"#
    )
}

fn card(out: &mut String, n: &Notification) {
    let draft = &n.draft;
    let channel = draft.channel.name();
    let at = n.received_at.format(&TIME).unwrap_or_default();
    let _ = write!(
        out,
        r#"<article class="{channel}" id="n{}"><h2>{}</h2><p class="meta"><span class="channel">{channel}</span> <time>{at}</time>"#,
        n.id,
        escape(&draft.title),
    );
    if !draft.from.is_empty() {
        let _ = write!(out, " · from {}", escape(&draft.from));
    }
    if !draft.to.is_empty() {
        let _ = write!(out, " · to {}", escape(&draft.to.join(", ")));
    }
    if n.edits > 0 {
        let times = if n.edits == 1 { "once" } else { "several times" };
        let _ = write!(out, r#" · <span title="changed {}×">changed {times}</span>"#, n.edits);
    }
    if let Some(first) = n.repeats {
        let _ = write!(out, r##" · <a href="#n{first}">came before</a>"##);
    }
    out.push_str("</p>");
    if !draft.violations.is_empty() {
        let what = if draft.refused { "Refused" } else { "Breaks its medium's rules" };
        let _ = write!(out, r#"<div class="violations" role="alert"><strong>{what}</strong><ul>"#);
        for violation in &draft.violations {
            let _ = write!(out, "<li><code>{}</code> {}</li>", escape(&violation.at), escape(&violation.what));
        }
        out.push_str("</ul></div>");
    }
    if !draft.text.is_empty() {
        let _ = write!(out, r#"<pre class="text">{}</pre>"#, escape(&draft.text));
    }
    if !draft.fields.is_empty() {
        out.push_str("<dl>");
        for field in &draft.fields {
            let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(&field.name), escape(&field.value));
        }
        out.push_str("</dl>");
    }
    let _ = write!(out, "<details><summary>As it came</summary><pre>{}</pre></details></article>", escape(&draft.raw));
}

/// Foreign text for element content and quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters mean nothing in HTML, and overrides of the text's
            // direction could make one thing look like another.
            c if (c.is_control() && c != '\n' && c != '\t')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::notification::{Draft, Field};

    #[test]
    fn no_foreign_text_becomes_markup() {
        let evil = r#"</pre><script>alert("x")</script><img src=x onerror='y'>&amp;"#.to_owned();
        let draft = Draft {
            title: evil.clone(),
            text: evil.clone(),
            from: evil.clone(),
            to: vec![evil.clone()],
            fields: vec![Field { name: evil.clone(), value: evil.clone() }],
            violations: vec![crate::wire::Violation::new(evil.clone(), evil.clone())],
            raw: evil,
            ..Draft::empty(Channel::Slack)
        };
        let page = render(&[vec![Notification::new(1, OffsetDateTime::UNIX_EPOCH, draft)]], 1, None);
        assert_eq!(page.matches("<script").count(), 1, "the page's own");
        assert!(!page.contains("<img") && !page.contains("onerror='"));
        assert!(page.contains("1970-01-01 00:00:00 UTC"));
        assert_eq!(escape("\u{1b}[31m\u{202e}a\n\tb"), "\u{fffd}[31m\u{fffd}a\n\tb");
    }

    #[test]
    fn a_thread_is_shown_as_one() {
        let one = |id, edits| Notification {
            edits,
            ..Notification::new(id, OffsetDateTime::UNIX_EPOCH, Draft::empty(Channel::Slack))
        };
        let page = render(&[vec![one(1, 2), one(3, 0), one(4, 0)], vec![one(2, 0)]], 4, None);
        assert!(page.contains(r#"data-newest="4" data-edits="2""#) && page.contains("2 replies"));
        assert_eq!(page.matches(r#"class="thread""#).count(), 1);
        assert!(page.contains("changed several times"));
    }

    #[test]
    fn an_empty_inbox_says_so() {
        let page = render(&[], 0, Some(Channel::Email));
        assert!(page.contains("Nothing has been sent yet"));
        assert!(page.contains(r#"<a href="./?channel=email" aria-current="page">Mail</a>"#));
    }
}
