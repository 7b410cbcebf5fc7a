//! From all that was sampled to what is kept.

use super::recording::{Heat, PeerRecord, Recording, Series, Spread};
use super::spells::secs;
use super::{HEAT_COLUMNS_MAX, RATES_MAX, Recorder, Sample, story};
use crate::net::Net;
use crate::run::Failure;
use crate::swarm::Node;
use crate::time::Nanos;

/// Jain's index of fairness: `(sum x)^2 / (n * sum x^2)`, from 1/n (one has everything) to 1 (all
/// have the same). None of nothing.
///
/// Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination for resource
/// allocation in shared computer systems" (1984).
pub fn jain(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

pub(super) fn reduce(
    mut recorder: Recorder,
    now: Nanos,
    net: &Net<Node>,
    failures: &[Failure],
) -> Recording {
    let peers: Vec<PeerRecord> =
        recorder.watches.iter().map(|watch| record(watch, now, net)).collect();
    let rates: Vec<f64> =
        peers.iter().filter(|peer| peer.fetches).map(|peer| peer.mean_rate).collect();
    let teller = story::choose(&recorder.watches, failures);
    let fetching = peers.iter().filter(|peer| peer.fetches);
    let mut complete_s: Vec<_> = fetching.clone().filter_map(|peer| peer.complete_s).collect();
    complete_s.sort_by(f64::total_cmp);
    let lacking = || fetching.clone().filter(|peer| peer.complete_s.is_none());
    let left_early = lacking().filter(|peer| peer.left_s.is_some()).count();
    let took_s = complete_s
        .last()
        .filter(|_| lacking().count() == left_early)
        .map(|last| (last - secs(recorder.begins)).max(0.0));
    let fetching = fetching.count();
    let series = series(&recorder, teller);
    let heat = heat(&recorder);
    let (spells, spells_left_out) = recorder.spells.take(now);
    let story = teller.map(|place| story::tell(&recorder.watches[place], &spells, failures, now));
    let failures = story::failures(&recorder, failures);
    Recording {
        ends_s: secs(now),
        begins_s: secs(recorder.begins),
        healed_s: secs(recorder.healed),
        bound_s: recorder.bound.as_secs_f64(),
        content_len: recorder.content_len,
        piece_len: recorder.piece_len,
        pieces: recorder.copies.len() as u32,
        jain: jain(&rates),
        utilisation: utilisation(&recorder, &peers),
        fetching,
        complete_s,
        left_early,
        took_s,
        peers,
        series,
        heat,
        spells,
        spells_left_out,
        clusters: recorder.slots.take().map(super::clusters::Slots::take),
        story,
        failures,
        streams: recorder.streams.take(),
    }
}

fn record(watch: &super::Watch, now: Nanos, net: &Net<Node>) -> PeerRecord {
    let traffic = net.traffic(watch.host);
    let until = watch.complete.or(watch.left).unwrap_or(now);
    let took = until.since(watch.arrives).as_secs_f64();
    PeerRecord {
        host: watch.host,
        fetches: watch.fetches,
        up_bytes_per_s: watch.up,
        down_bytes_per_s: watch.down,
        arrives_s: secs(watch.arrives),
        complete_s: watch.complete.filter(|_| watch.fetches).map(secs),
        left_s: watch.left.map(secs),
        received_bytes: traffic.received_bytes,
        sent_bytes: traffic.sent_bytes,
        mean_rate: if watch.fetches && took > 0.0 {
            traffic.received_bytes as f64 / took
        } else {
            0.0
        },
    }
}

/// What went from the first to the last sample in which somebody fetched, against what the uplinks
/// that were there could have carried.
fn utilisation(recorder: &Recorder, peers: &[PeerRecord]) -> Option<f64> {
    if !recorder.has_capacity || !peers.iter().any(|peer| peer.fetches) {
        return None;
    }
    let (mut all, mut could) = (0.0, 0.0);
    for pair in recorder.samples.windows(2) {
        if pair[1].hosts.iter().chain(&pair[0].hosts).any(|host| host.is_fetching) {
            let (moved, carried) = step(pair, recorder.is_closed);
            all += moved;
            could += carried;
        }
    }
    (could > 0.0).then(|| all / could)
}

/// Bytes that went between two samples, and bytes that could have. What is sent goes into a buffer
/// first, in bursts, and what comes has been through the link; but where there are trackers and
/// attackers, it may be theirs.
fn step(pair: &[Sample], is_closed: bool) -> (f64, f64) {
    let hosts = pair[0].hosts.iter().zip(&pair[1].hosts);
    let moved: u64 =
        hosts
            .map(|(before, after)| {
                if is_closed { after.received - before.received } else { after.sent - before.sent }
            })
            .sum();
    let rate = f64::midpoint(pair[0].capacity as f64, pair[1].capacity as f64);
    (moved as f64, rate * pair[1].at.since(pair[0].at).as_secs_f64())
}

/// Rates are over so much time at least: what goes is blocks, and short times hold few.
const RATE_OVER_S: f64 = 1.5;

fn series(recorder: &Recorder, teller: Option<usize>) -> Series {
    let mut series = Series::default();
    let pieces = recorder.copies.len().max(1) as f64;
    let shown = shown(recorder, teller);
    series.rates = shown.iter().map(|place| (recorder.watches[*place].host, Vec::new())).collect();
    let samples = &recorder.samples;
    let near = neighbours(samples);
    for (at, sample) in samples.iter().enumerate() {
        let (from, to) = (at.saturating_sub(near), (at + near).min(samples.len() - 1));
        let (before, after) = (&samples[from], &samples[to]);
        let passed = after.at.since(before.at).as_secs_f64();
        let rate = |bytes: u64| if passed > 0.0 { bytes as f64 / passed } else { 0.0 };
        let both = || before.hosts.iter().zip(&after.hosts);
        series.at_s.push(secs(sample.at));
        series.live.push(sample.hosts.iter().filter(|host| host.is_up).count() as f64);
        let fetching = both().filter(|(before, after)| before.is_fetching && after.is_fetching);
        let down: Vec<f64> =
            fetching.map(|(before, after)| rate(after.received - before.received)).collect();
        series.jain.push(jain(&down).unwrap_or(0.0));
        series.down.push(Spread::of(down));
        let up = both().filter(|(before, after)| before.is_up && after.is_up);
        series.up.push(Spread::of(up.map(|(before, after)| rate(after.sent - before.sent))));
        let watched = recorder.watches.iter().zip(&sample.hosts);
        let fetch = watched.filter(|(watch, _)| watch.fetches);
        let have = fetch.map(|(_, host)| f64::from(host.have) / pieces);
        series.progress.push(Spread::of(have));
        let up = sample.hosts.iter().filter(|host| host.is_up);
        series.connections.push(Spread::of(up.map(|host| f64::from(host.connections))));
        let [low, mid, high] = sample.copies.map(f64::from);
        series.copies.push(Spread { low, mid, high });
        if recorder.has_capacity {
            let (mut moved, mut could) = (0.0, 0.0);
            for pair in samples[from..=to].windows(2) {
                let step = step(pair, recorder.is_closed);
                moved += step.0;
                could += step.1;
            }
            series.utilisation.push(if could > 0.0 { moved / could } else { 0.0 });
        }
        if let Some(teller) = teller {
            series.slowest.push(f64::from(sample.hosts[teller].have) / pieces);
        }
        for ((_, rates), place) in series.rates.iter_mut().zip(&shown) {
            rates.push(rate(after.hosts[*place].received - before.hosts[*place].received));
        }
    }
    series
}

/// How many samples before and after one its rates are over: [`RATE_OVER_S`] in all, but no more
/// than a twentieth of the run.
fn neighbours(samples: &[Sample]) -> usize {
    let all = samples.last().map_or(0.0, |last| secs(last.at));
    let interval = all / samples.len().max(2) as f64;
    #[expect(clippy::cast_sign_loss, reason = "times are not negative")]
    let wanted = (RATE_OVER_S / 2.0 / interval.max(1e-9)).ceil() as usize;
    wanted.clamp(1, (samples.len() / 40).max(1))
}

/// Whose rates are shown: evenly chosen of those who fetch, by how fast they were, and the one
/// whose story is told.
fn shown(recorder: &Recorder, teller: Option<usize>) -> Vec<usize> {
    let last = recorder.samples.last();
    let received = |place: usize| last.map_or(0, |sample| sample.hosts[place].received);
    let mut fetching: Vec<usize> = (0..recorder.watches.len())
        .filter(|place| recorder.watches[*place].fetches && Some(*place) != teller)
        .collect();
    fetching.sort_by_key(|place| {
        let watch = &recorder.watches[*place];
        (watch.complete.unwrap_or(Nanos::NEVER), received(*place), *place)
    });
    let count = fetching.len().min(RATES_MAX - 1);
    let mut shown: Vec<usize> =
        (0..count).map(|at| fetching[at * fetching.len() / count]).collect();
    shown.extend(teller);
    shown
}

fn heat(recorder: &Recorder) -> Heat {
    let samples = &recorder.samples;
    let columns = samples.len().min(HEAT_COLUMNS_MAX);
    let picked = (0..columns).map(|column| &samples[column * samples.len() / columns]);
    Heat {
        at_s: picked.clone().map(|sample| secs(sample.at)).collect(),
        pieces: recorder.rows().into_iter().map(|row| row.start as u32).collect(),
        copies: picked.map(|sample| sample.rows.to_vec()).collect(),
    }
}

impl Spread {
    /// The 10, 50 and 90 % quantiles; zeros of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| quantile(&values, share).unwrap_or(0.0);
        Self { low: at(0.1), mid: at(0.5), high: at(0.9) }
    }
}

/// The quantile of sorted values, linear between two of them; none of nothing.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = share.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_sign_loss, reason = "a place in a list is not negative")]
    let below = (at.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let part = at - below as f64;
    Some(sorted[below] * (1.0 - part) + sorted[above] * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_among_equals_and_one_nth_where_one_has_all() {
        let is = |shares: &[f64], expected: f64| {
            let index = jain(shares).expect("there is something");
            assert!((index - expected).abs() < 1e-12, "{shares:?}: {index}");
        };
        is(&[3.0; 7], 1.0);
        is(&[0.0, 0.0, 5.0, 0.0], 0.25);
        // (1 + 2 + 3)^2 / (3 * 14)
        is(&[1.0, 2.0, 3.0], 36.0 / 42.0);
        assert_eq!(jain(&[]), None);
        assert_eq!(jain(&[0.0; 3]), None);
    }

    #[test]
    fn quantiles_are_linear_between_values() {
        let values: Vec<f64> = (0..=10).map(f64::from).collect();
        assert_eq!(Spread::of(values), Spread { low: 1.0, mid: 5.0, high: 9.0 });
        assert!((Spread::of([4.0, 2.0]).mid - 3.0).abs() < 1e-12);
        assert_eq!(Spread::of([]), Spread::default());
    }
}
