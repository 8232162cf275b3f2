//! What sockets weigh, and what the relay costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tenure_domain::Millis;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Failure;
use crate::peers::{MASKED, MESSAGE, PLAIN, connect, upstream};
use crate::stand::Stand;

const DAY: Millis = Millis::hours(24);
/// Sockets that relay at once, and messages under way on each.
const SOCKETS: usize = 32;
const DEPTH: usize = 8;
const ROUNDS: usize = 4;

/// Idle sockets, ten to a device, each of a session of its own.
pub(crate) async fn memory(tenure: &str, count: usize) -> Result<(), Failure> {
    let stand = Stand::new(tenure, false).await?;
    let (address, _) = upstream().await?;
    let gateway = stand.gateway(address, &[])?;
    let issued = stand.issue(count, 10, DAY).await?;
    let one = |n: usize| {
        let (token, address) = (issued[n].token.to_text(), gateway.address.clone());
        async move { connect(&address, "/echo", Some(token.expose())).await }
    };
    // What the first ones bring about is not theirs alone.
    let mut open = try_join_all((0..50).map(one)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = gateway.resident()?;
    for chunk in (50..count).collect::<Vec<_>>().chunks(100) {
        open.extend(try_join_all(chunk.iter().map(|n| one(*n))).await?);
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after = gateway.resident()?;
    let each = (after - before) as f64 / (count - 50) as f64;
    println!("memory, {count} idle sockets: {} MiB resident, {each:.1} KiB for each", after / 1024);
    if each > 16.0 { Err("more than 16 KiB for each".into()) } else { Ok(()) }
}

/// Messages of 1 KiB there and back through the relay, and through the same gateway on a public path, where nothing
/// is enforced; in turns.
pub(crate) async fn throughput(tenure: &str, seconds: u64) -> Result<(), Failure> {
    let stand = Stand::new(tenure, false).await?;
    let (address, _) = upstream().await?;
    let gateway = stand.gateway(address, &["--public-path", "/public"])?;
    let issued = stand.issue(SOCKETS, 10, DAY).await?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (enforced, rates) in rates.iter_mut().enumerate() {
            let streams = issued.iter().map(|issued| {
                let (token, address) = (issued.token.to_text(), gateway.address.clone());
                async move {
                    if enforced == 1 {
                        connect(&address, "/echo", Some(token.expose())).await
                    } else {
                        connect(&address, "/public", None).await
                    }
                }
            });
            rates.push(rate(try_join_all(streams).await?, Duration::from_secs(seconds)).await?);
        }
    }
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let (bare, enforced) = (best(&rates[0]), best(&rates[1]));
    println!(
        "relay, {MESSAGE} B there and back, {SOCKETS} sockets, best of {ROUNDS}: enforced {enforced:.0}/s, not \
         enforced {bare:.0}/s, ratio {:.3}",
        enforced / bare
    );
    Ok(())
}

/// How many messages a second come back.
async fn rate(streams: Vec<TcpStream>, lasts: Duration) -> Result<f64, Failure> {
    let done = Arc::new(AtomicU64::new(0));
    let mut message = vec![0x82, 0xfe];
    message.extend((MESSAGE as u16).to_be_bytes());
    message.resize(MASKED, 0);
    let messages = message.repeat(DEPTH);
    let start = Instant::now();
    let clients: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let (done, messages) = (done.clone(), messages.clone());
            tokio::spawn(async move {
                let mut room = vec![0; PLAIN * DEPTH];
                while start.elapsed() < lasts {
                    stream.write_all(&messages).await?;
                    stream.read_exact(&mut room).await?;
                    done.fetch_add(DEPTH as u64, Ordering::Relaxed);
                }
                Ok::<_, std::io::Error>(())
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}
