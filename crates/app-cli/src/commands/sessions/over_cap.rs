//! Devices that were not imported because they would have too many active sessions.

use serde_json::json;
use tenure_service::OverCap;

/// Returns the devices that were not imported as JSON, for scripts.
pub(super) fn over_cap_json(devices: &[OverCap]) -> serde_json::Value {
    let device = |over: &OverCap| json!({ "deviceId": over.device.as_str(), "active": over.active, "cap": over.cap });
    devices.iter().map(device).collect()
}

/// Prints an error for each device that was not imported.
pub(super) fn name_over_cap(devices: &[OverCap]) {
    for OverCap { device, active, cap } in devices {
        crate::output::errors(&format!(
            "device {device}: not imported, because it would have {active} active sessions and may have {cap}; revoke \
             some, or raise session.max_sessions_per_device"
        ));
    }
}
