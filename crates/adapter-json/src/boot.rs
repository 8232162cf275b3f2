//! How long the machine has run, and since which start: what a wrong wall clock is judged by.

use tenure_domain::Millis;

/// The machine's present run.
pub trait Boot: Send + Sync {
    /// Names the run; another after each restart of the machine. At most 16 of its characters are recorded.
    fn id(&self) -> String;
    /// The time since the machine started, sleep included. Nobody can set it.
    fn elapsed(&self) -> Millis;
}

/// What the operating system says.
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

    fn elapsed(&self) -> Millis {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        // There CLOCK_MONOTONIC goes on during sleep.
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let millis = u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000;
        Millis::new(seconds.saturating_mul(1_000).saturating_add(millis))
    }
}
