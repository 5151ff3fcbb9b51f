//! Google's own description of the API: its methods, and the forms of their parameters and bodies.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::schema::Schemas;

/// An excerpt of the published document; see discovery/README.md
const DOCUMENT: &str = include_str!("../discovery/compute-v1.json");

/// Parameters that every Google API accepts, even if the document does not list them.
/// Source: "System parameters", Google Cloud API documentation.
const SYSTEM_PARAMETERS: [&str; 6] = ["$alt", "$apiVersion", "$fields", "$key", "$prettyPrint", "$quotaUser"];

/// The parsed document
pub(crate) struct Discovery {
    methods: Vec<Method>,
    common: Map<String, Value>,
    schemas: Schemas,
}

/// One method of the API
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

/// A request's parameters by name, from path or query
pub(crate) type Parameters = BTreeMap<String, String>;

impl Discovery {
    /// Loads the vendored document.
    ///
    /// # Panics
    /// If the document is malformed, which every test would show.
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

    /// Returns the method that a request calls, and the parameters in its path.
    pub(crate) fn method(&self, verb: &str, path: &str) -> Option<(&Method, Parameters)> {
        let mut matching = self.methods.iter().filter(|method| method.verb == verb);
        matching.find_map(|method| Some((method, method.match_path(path)?)))
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
                Some(schema) => self.schemas.check_parameter(name, value, schema)?,
                None if SYSTEM_PARAMETERS.contains(&name.as_str()) => {}
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
            (Some(schema), Some(body)) => self.schemas.check_body(schema, body),
            (Some(_), None) => Err(ApiError::new(400, "required", "Required field 'resource' not specified")),
            (None, Some(_)) => {
                Err(ApiError::invalid_argument("Request body is not allowed for this method."))
            }
            (None, None) => Ok(()),
        }
    }

    /// Checks an answer of the simulator; the error names the part that Google would never send.
    pub(crate) fn check_answer(&self, method: &Method, body: &Value) -> Result<(), String> {
        self.schemas.check_body(&method.response, body).map_err(|error| error.message)
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

    /// Returns true if the method changes something.
    pub(crate) fn mutates(&self) -> bool {
        self.verb != "GET" && !matches!(self.name(), "wait" | "testIamPermissions")
    }

    /// Returns the last part of the id: `insert`, `wait`, …
    pub(crate) fn name(&self) -> &str {
        self.id.rsplit('.').next().unwrap_or_default()
    }

    /// Returns the parameters in the path, or `None` if the path is another method's.
    fn match_path(&self, path: &str) -> Option<Parameters> {
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
