//! Progress bars: one line per torrent, on a terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use teem_core::ids::TorrentId;
use teem_core::session::{TorrentSnapshot, TorrentState};

/// The bars that are on the terminal, if there are any: what is written otherwise goes above.
static SHOWN: OnceLock<MultiProgress> = OnceLock::new();

/// Standard error, above the bars.
#[derive(Debug, Default)]
pub(crate) struct Above {
    line: Vec<u8>,
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let write = || io::stderr().lock().write_all(&line);
        match SHOWN.get() {
            Some(bars) if !line.is_empty() => bars.suspend(write),
            _ => write(),
        }
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        // Standard error is gone: there is nobody to tell.
        let _ = self.flush();
    }
}

/// The bars of all torrents.
#[derive(Debug)]
pub(crate) struct Bars {
    bars: BTreeMap<TorrentId, ProgressBar>,
}

impl Bars {
    pub(crate) const fn new() -> Self {
        Self { bars: BTreeMap::new() }
    }

    fn multi() -> &'static MultiProgress {
        SHOWN.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5)))
    }

    /// Shows a torrent as it is; `text` stands behind its bar.
    pub(crate) fn show(&mut self, torrent: &TorrentSnapshot, text: String) {
        let bar = self.bars.entry(torrent.id).or_insert_with(|| {
            let bar = Self::multi().add(ProgressBar::new(torrent.wanted_bytes));
            bar.set_style(style());
            bar
        });
        // A magnet link may have none, or another one than its torrent.
        bar.set_prefix(crate::report::printable(&torrent.name));
        let (done, total) = match torrent.state {
            TorrentState::FetchingMetadata { done, total } => {
                (done.into(), total.map_or(1, u64::from))
            }
            TorrentState::Checking { done, total } => (done, total),
            _ => (torrent.wanted_bytes - torrent.left_bytes, torrent.wanted_bytes),
        };
        bar.set_length(total.max(1));
        bar.set_position(if total == 0 { 1 } else { done });
        bar.set_message(text);
    }

    /// Takes the bars away.
    pub(crate) fn clear(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:20!} {bar:24} {percent:>3}% {wide_msg}")
        .expect("a template of ours")
        .progress_chars("=> ")
}
