//! The query protocol: parameters in, XML out.

use std::collections::BTreeMap;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// An error of EC2: code and message.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: String,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// The parameters of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    /// Parses the body of a request.
    pub(crate) fn of_body(body: &[u8]) -> Self {
        let text = std::str::from_utf8(body).unwrap();
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (decode(key), decode(value))).collect())
    }

    /// Returns the value, empty if it is not given.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// Returns true if the parameter is given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Returns the values of `key.1`, `key.2`, …
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        (1..=10_000).map_while(|n| self.0.get(&format!("{key}.{n}"))).cloned().collect()
    }

    /// Returns the prefixes `key.1`, `key.2`, … of given parameters.
    pub(crate) fn members(&self, key: &str) -> Vec<String> {
        let is_given = |prefix: &String| self.0.keys().any(|key| key.starts_with(&format!("{prefix}.")));
        (1..=10_000).map(|n| format!("{key}.{n}")).take_while(is_given).collect()
    }

    /// Returns name and values of every filter.
    pub(crate) fn filters(&self) -> Vec<(String, Vec<String>)> {
        let filter =
            |at: String| (self.get(&format!("{at}.Name")).to_owned(), self.list(&format!("{at}.Value")));
        self.members("Filter").into_iter().map(filter).collect()
    }

    /// Refuses parameters that EC2 refuses in every Describe call.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.filters().iter().map(|(_, values)| values.len()).sum::<usize>() > 200 {
            return Err(Failure::new("FilterLimitExceeded", "The maximum number of filter values is 200"));
        }
        if self.filters().iter().any(|(_, values)| values.is_empty()) {
            return Err(Failure::new("InvalidParameterValue", "a filter without values"));
        }
        let by_id =
            ["GroupId", "InstanceId", "NetworkInterfaceId"].iter().any(|key| self.has(&format!("{key}.1")));
        if by_id && self.has("MaxResults") {
            return Err(Failure::new("InvalidParameterCombination", "MaxResults and ids"));
        }
        match self.get("MaxResults").parse::<u32>() {
            Ok(number) if !(5..=1000).contains(&number) => {
                Err(Failure::new("InvalidMaxResults", "5 to 1000"))
            }
            _ => Ok(()),
        }
    }

    /// Returns a page and the token of the next: of two objects, whatever was asked for, unless pages are full.
    /// `MaxResults` is a maximum, and pages may be shorter.
    pub(crate) fn page<T>(&self, all: Vec<T>, is_full: bool) -> (Vec<T>, String) {
        let from: usize = self.get("NextToken").parse().unwrap_or(0);
        let most = self.get("MaxResults").parse().ok();
        let end = most.map_or(all.len(), |most: usize| from + if is_full { most } else { 2 });
        let more = all.len() > end;
        let token = if more { format!("<nextToken>{end}</nextToken>") } else { String::new() };
        (all.into_iter().take(end).skip(from).collect(), token)
    }
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).unwrap()
}

/// Returns `<name>text</name>`, escaped.
pub(crate) fn element(name: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    element_of(name, &text)
}

/// Returns `<name>inner</name>`.
fn element_of(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

/// Returns `<name><item>…</item>…</name>`.
pub(crate) fn list(name: &str, items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| element_of("item", &item)).collect();
    element_of(name, &items.concat())
}

/// Returns the element for tags.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> String {
    list("tagSet", tags.iter().map(|(key, value)| element("key", key) + &element("value", value)))
}

/// Returns the answer of a call that succeeded.
pub(crate) fn success(action: &str, inner: &str) -> HttpResponse {
    let body = format!(
        "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>1</requestId>{inner}</{action}Response>"
    );
    HttpResponse::new(200.try_into().unwrap(), body.into())
}

/// Returns the answer of a call that failed.
pub(crate) fn failure(failure: &Failure) -> HttpResponse {
    let Failure { code, message } = failure;
    let status: u16 = if code == "RequestLimitExceeded" || code == "Unavailable" { 503 } else { 400 };
    let error = element("Code", code) + &element("Message", message);
    let body =
        format!("<Response><Errors><Error>{error}</Error></Errors><RequestID>1</RequestID></Response>");
    HttpResponse::new(status.try_into().unwrap(), body.into())
}
