//! Google's own description of the API: which methods there are, and what their parameters and bodies may be.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::schema::Schemas;

/// Cut from the published document; see discovery/README.md.
const DOCUMENT: &str = include_str!("../discovery/compute-v1.json");

/// Accepted by every Google API, whether or not the document lists them.
/// Source: "System parameters", Google Cloud API documentation.
const SYSTEM: [&str; 6] = ["$alt", "$apiVersion", "$fields", "$key", "$prettyPrint", "$quotaUser"];

/// The document, ready for use.
pub(crate) struct Discovery {
    methods: Vec<Method>,
    common: Map<String, Value>,
    schemas: Schemas,
}

/// One method of the API.
pub(crate) struct Method {
    /// For example `compute.firewalls.insert`
    pub(crate) id: String,
    pub(crate) verb: String,
    path: Vec<Segment>,
    parameters: Map<String, Value>,
    request: Option<String>,
    response: String,
}

enum Segment {
    Literal(String),
    Parameter(String),
}

/// A request's parameters by name, from path and query.
pub(crate) type Parameters = BTreeMap<String, String>;

impl Discovery {
    /// # Panics
    /// If the vendored document is broken, which every test would show.
    pub(crate) fn load() -> Self {
        let document: Value = serde_json::from_str(DOCUMENT).expect("the vendored document is JSON");
        let resources = document["resources"].as_object().expect("the document has resources");
        let methods =
            resources.values().flat_map(|resource| resource["methods"].as_object().into_iter().flatten());
        let prefix = format!("/{}", document["servicePath"].as_str().unwrap_or_default());
        Self {
            methods: methods.map(|(_, method)| Method::read(method, &prefix)).collect(),
            common: document["parameters"].as_object().cloned().unwrap_or_default(),
            schemas: Schemas(document["schemas"].as_object().cloned().unwrap_or_default()),
        }
    }

    /// The method that a request calls, and the parameters in its path.
    pub(crate) fn method(&self, verb: &str, path: &str) -> Option<(&Method, Parameters)> {
        let mut matching = self.methods.iter().filter(|method| method.verb == verb);
        matching.find_map(|method| Some((method, method.matches(path)?)))
    }

    /// Checks every parameter of a request.
    pub(crate) fn check_parameters(
        &self,
        method: &Method,
        path: &Parameters,
        query: &Parameters,
    ) -> Result<(), ApiError> {
        for (name, value) in path.iter().chain(query) {
            let declared = method.parameters.get(name).or_else(|| self.common.get(name));
            match declared {
                Some(schema) => self.schemas.parameter(name, value, schema)?,
                None if SYSTEM.contains(&name.as_str()) => {}
                None => {
                    let message = format!(
                        "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter. Field \
                         '{name}' could not be found in request message."
                    );
                    return Err(ApiError::invalid_argument(message));
                }
            }
        }
        for name in ["alt", "$alt"] {
            if query.get(name).is_some_and(|alt| alt.split(';').next() != Some("json")) {
                return Err(ApiError::invalid(format!(
                    "Invalid value for parameter '{name}': only json is served."
                )));
            }
        }
        Ok(())
    }

    /// Checks a request's body.
    pub(crate) fn check_body(&self, method: &Method, body: Option<&Value>) -> Result<(), ApiError> {
        match (&method.request, body) {
            (Some(schema), Some(body)) => self.schemas.body(schema, body),
            (Some(_), None) => Err(ApiError::new(400, "required", "Required field 'resource' not specified")),
            (None, Some(_)) => {
                Err(ApiError::invalid_argument("Request body is not allowed for this method."))
            }
            (None, None) => Ok(()),
        }
    }

    /// Checks an answer of ours; an error says what Google would never send.
    pub(crate) fn check_answer(&self, method: &Method, body: &Value) -> Result<(), String> {
        self.schemas.body(&method.response, body).map_err(|error| error.message)
    }
}

impl Method {
    fn read(method: &Value, prefix: &str) -> Self {
        let text = |key: &str| method[key].as_str().unwrap_or_default().to_owned();
        let reference = |key: &str| method[key]["$ref"].as_str().map(ToOwned::to_owned);
        let segment = |text: &str| match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => Segment::Parameter(name.trim_start_matches('+').to_owned()),
            None => Segment::Literal(text.to_owned()),
        };
        Self {
            id: text("id"),
            verb: text("httpMethod"),
            path: format!("{prefix}{}", text("path")).split('/').map(segment).collect(),
            parameters: method["parameters"].as_object().cloned().unwrap_or_default(),
            request: reference("request"),
            response: reference("response").unwrap_or_default(),
        }
    }

    /// Whether it changes something.
    pub(crate) fn mutates(&self) -> bool {
        self.verb != "GET" && !matches!(self.name(), "wait" | "testIamPermissions")
    }

    /// The last part of the id: `insert`, `wait`, …
    pub(crate) fn name(&self) -> &str {
        self.id.rsplit('.').next().unwrap_or_default()
    }

    fn matches(&self, path: &str) -> Option<Parameters> {
        let segments: Vec<&str> = path.split('/').collect();
        if segments.len() != self.path.len() {
            return None;
        }
        let mut parameters = Parameters::new();
        for (expected, found) in self.path.iter().zip(segments) {
            let found = percent_decode_str(found).decode_utf8().ok()?;
            match expected {
                Segment::Literal(literal) if *literal == found => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(name) => _ = parameters.insert(name.clone(), found.into_owned()),
            }
        }
        Some(parameters)
    }
}
