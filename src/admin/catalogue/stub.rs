use super::Operation;
use crate::admin::operations::Parameters;
use serde_json::{Map, Value};
impl Operation {
    pub fn masked(&self, given: &Map<String, Value>) -> Value {
        Value::Object(given.clone())
    }
}
pub fn expand(argv: &[String], _: &Parameters) -> Vec<String> {
    argv.to_vec()
}
