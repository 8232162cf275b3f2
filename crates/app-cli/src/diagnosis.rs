//! Diagnoses, as people and scripts see them.

use serde_json::{Value, json};
use tenure_ports::{Diagnosis, Severity};

use crate::output::masking;
use crate::settings::SettingsError;

/// Makes a diagnosis whose texts show no secret.
pub(crate) fn diagnosis(severity: Severity, finding: impl Into<String>, advice: impl Into<String>) -> Diagnosis {
    masked(Diagnosis { severity, finding: finding.into(), advice: advice.into() })
}

/// Removes what looks like a secret from a diagnosis.
pub(crate) fn masked(diagnosis: Diagnosis) -> Diagnosis {
    let safe = |text: String| masking::masked(&text).into_owned();
    Diagnosis { finding: safe(diagnosis.finding), advice: safe(diagnosis.advice), ..diagnosis }
}

/// Returns the diagnoses for settings that cannot be used, one for each problem.
pub(crate) fn settings_failures(error: &SettingsError) -> impl Iterator<Item = Diagnosis> {
    let advice = "correct it (tenure config set, or an editor); until then no command runs";
    error.0.iter().map(move |problem| diagnosis(Severity::Failure, problem.as_str(), advice))
}

/// Returns the stable code of a severity: `ok`, `warn` or `fail`.
pub(crate) const fn code(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warn",
        Severity::Failure => "fail",
    }
}

/// Returns a diagnosis as JSON, for scripts.
pub(crate) fn json(diagnosis: &Diagnosis) -> Value {
    let mut value = json!({ "level": code(diagnosis.severity), "what": diagnosis.finding });
    if !diagnosis.advice.is_empty() {
        value["advice"] = diagnosis.advice.as_str().into();
    }
    value
}
