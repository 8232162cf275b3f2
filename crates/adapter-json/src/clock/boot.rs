//! The machine's boot id and uptime, by which a wrong wall clock is noticed.

use tenure_domain::Millis;

/// A source of the machine's boot id and uptime.
pub trait Boot: Send + Sync {
    /// The id of the machine's last start; another one after each restart. Its first 16 letters and digits are recorded.
    fn id(&self) -> String;
    /// The time since the machine's last start, including sleep. It cannot be set.
    fn uptime(&self) -> Millis;
}

/// The boot id and the uptime that the operating system tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemBoot;

impl Boot for SystemBoot {
    #[cfg(target_os = "linux")]
    fn id(&self) -> String {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        text.trim().replace('-', "")
    }

    #[cfg(not(target_os = "linux"))]
    fn id(&self) -> String {
        std::process::Command::new("/usr/sbin/sysctl")
            .args(["-n", "kern.bootsessionuuid"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().replace('-', "").to_lowercase())
            .unwrap_or_default()
    }

    fn uptime(&self) -> Millis {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        // On these systems CLOCK_MONOTONIC includes sleep.
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let millis = u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000;
        Millis::new(seconds.saturating_mul(1_000).saturating_add(millis))
    }
}
