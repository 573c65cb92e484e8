//! Finds the next page of a list: the `Link` header (RFC 8288), and what registries send instead.

/// One link.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    target: Vec<u8>,
    /// In small letters; none if it says none.
    relations: Option<Vec<String>>,
}

/// The target of the one link that leads to the next page, if there is one, relative to the page.
pub(super) fn next<'h>(headers: impl Iterator<Item = &'h [u8]>) -> Option<Vec<u8>> {
    let mut links: Vec<Link> = headers.flat_map(parse).collect();
    let is_next = |link: &Link| link.relations.iter().flatten().any(|relation| relation == "next");
    if let Some(at) = links.iter().position(is_next) {
        return Some(links.swap_remove(at).target);
    }
    // A single link without a `rel` can only be the next page.
    match links.as_slice() {
        [Link { relations: None, .. }] => links.pop().map(|link| link.target),
        _ => None,
    }
}

/// The links of one header. Without `<>`, the whole header is one link.
fn parse(header: &[u8]) -> Vec<Link> {
    let mut links = Vec::new();
    let mut rest = header.trim_ascii();
    while !rest.is_empty() {
        let (target, after) = match rest.strip_prefix(b"<") {
            Some(inside) => cut(inside, |byte| byte == b'>'),
            None => {
                let (target, _) = cut(rest, |byte| byte == b';');
                (target, &rest[target.len()..])
            }
        };
        let end = end_of_link(after);
        links.push(Link { target: target.trim_ascii().to_vec(), relations: relations(&after[..end]) });
        rest = after[end..].trim_ascii_start();
        while let Some(more) = rest.strip_prefix(b",") {
            rest = more.trim_ascii_start();
        }
    }
    links
}

/// What comes before the first of these, and what comes after it.
fn cut(text: &[u8], is_it: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| is_it(*byte)) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// Where a comma ends a link's parameters: one that is not in quotes.
fn end_of_link(text: &[u8]) -> usize {
    find(text, b',').unwrap_or(text.len())
}

/// The first of a byte outside of quotes.
fn find(text: &[u8], wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.iter().position(|byte| {
        let found = !quoted && *byte == wanted;
        if escaped {
            escaped = false;
        } else {
            escaped = quoted && *byte == b'\\';
            quoted ^= *byte == b'"';
        }
        found
    })
}

/// The relation types among a link's parameters, `; rel="next"`. The first `rel` counts (RFC 8288, 3.3).
fn relations(mut parameters: &[u8]) -> Option<Vec<String>> {
    loop {
        let end = find(parameters, b';').unwrap_or(parameters.len());
        let (name, value) = cut(&parameters[..end], |byte| byte == b'=');
        if name.trim_ascii().eq_ignore_ascii_case(b"rel") {
            let value = String::from_utf8_lossy(value).to_ascii_lowercase();
            let value = value.trim().trim_matches(['"', '\'']);
            return Some(value.split_whitespace().map(str::to_owned).collect());
        }
        parameters = parameters.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_of(headers: &[&str]) -> Option<String> {
        next(headers.iter().map(|header| header.as_bytes())).map(|target| String::from_utf8(target).unwrap())
    }

    #[test]
    fn the_link_to_the_next_page_is_found() {
        for headers in [
            &[r#"</a?n=1&last=x,y;z>; rel="next""#][..],
            &["</a?n=1&last=x,y;z>;rel=next"],
            &["</a?n=1&last=x,y;z> ; title=\"a, \\\"b; rel=prev\" ; REL = \"Prefetch NEXT\""],
            &["</a?n=1&last=x,y;z>"],
            &[r#"</0>; rel="prev", </a?n=1&last=x,y;z>; rel="next""#],
            &[r#"</0>; rel="first""#, r#"</a?n=1&last=x,y;z>; rel="next""#],
            &[r#", </0>; rel="first",, </a?n=1&last=x,y;z>; rel='next',"#],
        ] {
            assert_eq!(next_of(headers).as_deref(), Some("/a?n=1&last=x,y;z"), "{headers:?}");
        }
        assert_eq!(next_of(&[r#"/a?n=1&last=x; rel="next""#]).as_deref(), Some("/a?n=1&last=x"));
        assert_eq!(next_of(&["/a?n=1&last=x"]).as_deref(), Some("/a?n=1&last=x"));
    }

    #[test]
    fn other_links_lead_nowhere() {
        for headers in [
            &[][..],
            &[""],
            &[r#"</0>; rel="prev""#],
            &[r#"</0>; rel="prev"; rel="next""#],
            &["</0>, </1>"],
            &[r#"</0>; rel="nextish""#],
        ] {
            assert_eq!(next_of(headers), None, "{headers:?}");
        }
    }
}
