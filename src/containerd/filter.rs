//! containerd's filters (pkg/filters in its sources): a list of alternatives, each of which is a list of selectors that must
//! all match, `FIELD`, `FIELD==VALUE`, `FIELD!=VALUE` or `FIELD~=REGULAR-EXPRESSION`.

use regex::Regex;

use super::store::Document;

/// Whether any of several filters matches; all do, if there are none.
#[derive(Debug)]
pub(super) struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    field: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Box<Regex>),
}

impl Filters {
    /// Reads filters.
    ///
    /// # Errors
    /// What is wrong, and in which.
    pub(super) fn parse(texts: &[String]) -> Result<Self, String> {
        let parse = |text: &String| match text.as_str() {
            "" => Ok(Vec::new()),
            text => Reader { rest: text }.selectors().map_err(|problem| format!("the filter {text:?}: {problem}")),
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a snapshot is one of those that are asked for.
    pub(super) fn match_snapshot(&self, snapshot: &Document) -> bool {
        self.0.is_empty() || self.0.iter().any(|all| all.iter().all(|selector| selector.matches(snapshot)))
    }
}

impl Selector {
    fn matches(&self, snapshot: &Document) -> bool {
        let value = match self.field.first().map(String::as_str) {
            Some("kind") => Some(snapshot.kind.name()),
            Some("name") => Some(snapshot.name.as_str()),
            Some("parent") => Some(snapshot.parent.as_str()),
            Some("labels") => snapshot.labels.get(&self.field[1..].join(".")).map(String::as_str),
            _ => None,
        };
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value == Some(wanted),
            // As containerd has it: what is not there is not that, either.
            Test::NotEqual(wanted) => value != Some(wanted),
            Test::Matches(regex) => value.is_some_and(|value| regex.is_match(value)),
        }
    }
}

/// What is left to be read.
struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn selectors(mut self) -> Result<Vec<Selector>, String> {
        let mut selectors = vec![self.selector()?];
        while self.skip(",") {
            selectors.push(self.selector()?);
        }
        match self.rest {
            "" => Ok(selectors),
            rest => Err(format!("cannot read {rest:?}")),
        }
    }

    fn selector(&mut self) -> Result<Selector, String> {
        let mut field = vec![self.field()?];
        while self.skip(".") {
            field.push(self.field()?);
        }
        let test = if self.skip("==") {
            Test::Equal(self.value("\"'")?)
        } else if self.skip("!=") {
            Test::NotEqual(self.value("\"'")?)
        } else if self.skip("~=") {
            // In these, backslashes are for the expression.
            let regex = Regex::new(&self.value("\"'/|")?);
            Test::Matches(Box::new(regex.map_err(|error| error.to_string())?))
        } else {
            Test::Present
        };
        Ok(Selector { field, test })
    }

    fn field(&mut self) -> Result<String, String> {
        if let Some(quoted) = self.quoted("\"'")? {
            return Ok(quoted);
        }
        let end = self.rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        match self.take(end.unwrap_or(self.rest.len())) {
            name if name.starts_with(|letter: char| letter.is_ascii_alphabetic()) => Ok(name),
            name => Err(format!("{:?} is not the name of a field", name + self.rest)),
        }
    }

    fn value(&mut self, quotes: &str) -> Result<String, String> {
        if let Some(quoted) = self.quoted(quotes)? {
            return Ok(quoted);
        }
        let end = self.rest.find(|letter: char| letter == ',' || letter.is_whitespace());
        match self.take(end.unwrap_or(self.rest.len())) {
            value if value.is_empty() => Err("a value is missing".to_owned()),
            value => Ok(value),
        }
    }

    /// What is between these quotes, if it begins with one of them.
    fn quoted(&mut self, quotes: &str) -> Result<Option<String>, String> {
        let Some(quote) = self.rest.chars().next().filter(|&first| quotes.contains(first)) else { return Ok(None) };
        let is_raw = matches!(quote, '/' | '|');
        let (mut text, mut letters) = (String::new(), self.rest.char_indices().skip(1));
        while let Some((at, letter)) = letters.next() {
            match letter {
                letter if letter == quote => {
                    self.rest = &self.rest[at + letter.len_utf8()..];
                    return Ok(Some(text));
                }
                '\\' => match letters.next() {
                    Some((_, escaped)) if escaped == quote => text.push(escaped),
                    Some((_, escaped)) if is_raw => text.extend(['\\', escaped]),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, escaped @ ('\\' | '\'' | '"'))) => text.push(escaped),
                    _ => return Err(format!("cannot read what is escaped in {:?}", self.rest)),
                },
                letter => text.push(letter),
            }
        }
        Err(format!("the quote is not closed: {:?}", self.rest))
    }

    fn skip(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, length: usize) -> String {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::store::Kind;
    use super::*;

    fn matches(filters: &[&str]) -> bool {
        let labels = [("containerd.io/gc.root", "x"), ("plain", "a,b")];
        let labels: BTreeMap<String, String> =
            labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let snapshot = Document::new("k8s.io/12/sha256:ab", "sha256:cd", Kind::Committed, labels);
        let filters: Vec<String> = filters.iter().map(|&filter| filter.to_owned()).collect();
        Filters::parse(&filters).unwrap().match_snapshot(&snapshot)
    }

    #[test]
    fn filters_mean_what_they_mean_to_containerd() {
        for filters in [
            &[][..],
            &[""],
            &["kind==committed"],
            &["kind==active", "name~=^k8s.io/"],
            &["parent==sha256:cd,labels.plain==\"a,b\""],
            &["labels.\"containerd.io/gc.root\""],
            &["labels.'containerd.io/gc.root'==x,kind!=view"],
            &["labels.absent!=x"],
            &["name~=/k8s\\/.*|k8s\\.io/"],
            &["name~=|^k8s\\.io/[0-9]+/|"],
        ] {
            assert!(matches(filters), "{filters:?}");
        }
        for filter in ["kind==active", "labels.absent", "kind,unknown", "name~=^x"] {
            assert!(!matches(&[filter]), "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_said() {
        for filter in ["==x", "name==", "name=x", "name==\"x", "name~=(", "1name", "name==x y"] {
            assert!(Filters::parse(&[filter.to_owned()]).is_err(), "{filter}");
        }
    }
}
