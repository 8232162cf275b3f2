//! The store: its parts, and how it connects.

mod cached_read;
pub(crate) mod clock;
mod commits;
mod diagnostics;
mod events;
mod keys;
mod listing;
mod purge;
mod read;
mod recent_ends;
pub(crate) mod record;
mod replication;
pub(crate) mod scripts;
mod write;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use tenure_ports::{Clock, SessionCache, SessionRepository, StoreError};

use crate::cache::sharded_cache::ShardedCache;
use crate::client::Client;
use crate::client::config::{Config, Limits};
use crate::options::{Durability, Options};
use crate::repository::clock::{FleetClock, monotonic_micros};
use crate::repository::keys::Keys;
use crate::repository::recent_ends::RecentEnds;
use crate::repository::replication::Replicator;
use crate::setting_error::SettingError;

/// The interval at which the server is asked for its time.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// A store of sessions in Redis, shared by any number of processes.
pub struct RedisStore {
    pub(crate) client: Client,
    pub(crate) keys: Keys,
    pub(crate) options: Options,
    pub(crate) limits: Limits,
    /// The path of commits that must reach a replica, where the settings ask for that.
    pub(crate) replicator: Option<Replicator>,
    /// The ends that this process has committed lately.
    pub(crate) recent_ends: Arc<RecentEnds>,
    /// The sessions kept in memory, where the settings ask for it.
    pub(crate) cache: Option<Arc<ShardedCache>>,
    /// Whether a session with an idle timeout was seen. From then on, activity is read together with each record.
    pub(crate) idle_seen: AtomicBool,
    pub(crate) fleet: Arc<FleetClock>,
    /// This machine's clock, which diagnostics compare with the servers' time.
    pub(crate) wall: Arc<dyn Clock>,
    /// The clock to go by in place of the servers' time: see [`RedisStore::connect_with_clock`].
    pub(crate) own_clock: Option<Arc<dyn Clock>>,
}

impl RedisStore {
    /// Connects to the servers, within the deadlines of `options`. The store goes by the servers' time; `wall` is this
    /// machine's clock, which is only compared with it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] that names the server without its password.
    pub async fn connect(options: Options, wall: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        Self::connect_with(options, wall, None).await
    }

    /// Connects to the servers, and goes by `clock` in place of the servers' time. This is for tests and simulations,
    /// which move their clock themselves.
    ///
    /// Commits are checked against `clock`. The servers still expire keys by their own time: a key lives for as long as
    /// its session had left by `clock` when the key was written. All stores on the same servers must share one clock.
    ///
    /// # Errors
    /// The same as those of [`RedisStore::connect`].
    pub async fn connect_with_clock(options: Options, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        Self::connect_with(options, Arc::clone(&clock), Some(clock)).await
    }

    /// Checks the settings without connecting: their form, and the files that they name.
    ///
    /// # Errors
    /// [`SettingError`] for the first setting that cannot be used.
    pub fn check_options(options: &Options) -> Result<(), SettingError> {
        Self::keys(options)?;
        Config::new(options).map(drop)
    }

    fn keys(options: &Options) -> Result<Keys, SettingError> {
        let message = "it takes 1 to 64 characters without spaces, braces and wildcards";
        Keys::new(&options.prefix).ok_or_else(|| SettingError::new("redis.prefix", message))
    }

    async fn connect_with(
        options: Options,
        wall: Arc<dyn Clock>,
        own_clock: Option<Arc<dyn Clock>>,
    ) -> Result<Arc<Self>, StoreError> {
        let keys = Self::keys(&options)?;
        let config = Config::new(&options)?;
        let client = Client::new(&config);
        let fleet = Arc::new(FleetClock::default());
        let limits = client.limits;
        let replicator = (options.durability == Durability::Replicated).then(|| Replicator::new(Client::new(&config)));
        let clock = own_clock.clone().unwrap_or_else(|| Arc::clone(&fleet) as Arc<dyn Clock>);
        let recent_ends = Arc::new(RecentEnds::new(clock));
        let cache = options.near_cache.then(|| ShardedCache::start(Arc::clone(&client.topology), limits));
        let idle_seen = AtomicBool::new(false);
        let made =
            Self { client, keys, options, limits, replicator, recent_ends, cache, idle_seen, fleet, wall, own_clock };
        let store = Arc::new(made);
        store.sample_time().await?;
        tokio::spawn(Self::reassert_ends(Arc::downgrade(&store)));
        tokio::spawn(keep_time(Arc::downgrade(&store)));
        Ok(store)
    }

    /// Asks the servers for their time. On a cluster, every primary is asked and the latest time counts, so that all
    /// processes agree.
    async fn sample_time(&self) -> Result<(), StoreError> {
        let fail = |failure| self.client.fail(failure, String::new);
        let asked = monotonic_micros();
        let answers = self.client.send_to_each_primary(&redis::cmd("TIME")).await.map_err(fail)?;
        let answered = monotonic_micros();
        let (mut latest, mut failed) = (None, None);
        for answer in answers {
            match answer.map(micros) {
                Ok(Some(micros)) => latest = latest.max(Some(micros)),
                Ok(None) => {
                    failed = Some(StoreError::unavailable(
                        &*self.client.location,
                        "the server does not report its time; is it a Redis server?",
                    ));
                }
                Err(failure) => failed = Some(fail(failure)),
            }
        }
        let Some(latest) = latest else {
            return failed.map_or(Ok(()), Err);
        };
        if self.fleet.learn(latest, asked, answered) {
            tracing::warn!(
                server = %self.client.location,
                "the server's clock was set back; time in this process runs at half speed until the server has caught up"
            );
        }
        Ok(())
    }

    /// The time that scripts go by. It is empty where they take the server's.
    pub(crate) fn script_now(&self) -> String {
        self.own_clock.as_ref().map_or_else(String::new, |clock| clock.now().as_millis().to_string())
    }
}

fn micros(value: Value) -> Option<u64> {
    let (seconds, micros): (u64, u64) = redis::from_redis_value(value).ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

async fn keep_time(store: Weak<RedisStore>) {
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let Some(store) = store.upgrade() else {
            return;
        };
        if let Err(error) = store.sample_time().await {
            tracing::debug!(%error, "could not read the server's time");
        }
    }
}

impl SessionRepository for RedisStore {
    fn cache(&self) -> Option<&dyn SessionCache> {
        self.cache.as_deref().map(|cache| cache as &dyn SessionCache)
    }
}
