//! The machine's boot id and uptime. With them the store notices a wall clock that was set back.

use tenure_domain::Millis;

/// A source of the machine's boot id and uptime.
pub trait Boot: Send + Sync {
    /// Returns the id of the machine's last start, which differs after each restart. The store records its first 16
    /// letters and digits. An empty id means that the machine does not tell one start from the next.
    fn id(&self) -> String;
    /// Returns the time since the machine's last start, sleep included. No program can set it.
    fn uptime(&self) -> Millis;
}

/// The boot id and the uptime of this machine, from the operating system.
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
