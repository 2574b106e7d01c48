//! Which compression a leaf link uses (leaf protocol, compression): each side chooses for what it
//! sends, by the same rule.

use std::time::Duration;

use crate::config::model::Compression;
use crate::wire::error::ProtoError;

/// How hard blocks are compressed. The receiver need not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Framed, with checksums, but as they are.
    Uncompressed,
    /// `s2_fast`: the quickest.
    Fast,
    /// `s2_better`: half as fast, a little smaller.
    Better,
    /// `s2_best`: many times slower, smaller again; takes 4.5 MiB of memory while it works on a large
    /// block.
    Best,
}

impl Level {
    /// As CONNECT and monitoring name it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Uncompressed => "s2_uncompressed",
            Level::Fast => "s2_fast",
            Level::Better => "s2_better",
            Level::Best => "s2_best",
        }
    }
}

/// What a link does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Nothing, and what CONNECT calls it.
    Clear(&'static str),
    /// S2 in both directions.
    S2(Mode),
}

/// How the level of what we send is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Fixed(Level),
    /// By the round trip: see [`Compression::Auto`].
    Auto(Vec<Duration>),
}

impl Mode {
    /// As INFO names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Mode::Fixed(level) => level.name(),
            Mode::Auto(_) => "s2_auto",
        }
    }

    /// The level for a round trip; without one, as on a fast line.
    pub(crate) fn level(&self, round_trip: Option<Duration>) -> Level {
        const LEVELS: [Level; 4] = [Level::Uncompressed, Level::Fast, Level::Better, Level::Best];
        match self {
            Mode::Fixed(level) => *level,
            Mode::Auto(thresholds) => {
                let trip = round_trip.unwrap_or_default();
                // A threshold of zero leaves its level out. Above all of them: best where there are
                // three, else the level of the last.
                let within = thresholds
                    .iter()
                    .position(|most| !most.is_zero() && trip <= *most);
                let above = match thresholds.len() {
                    0..3 => thresholds.len().saturating_sub(1),
                    _ => LEVELS.len() - 1,
                };
                let at = within.unwrap_or(above);
                LEVELS.get(at).copied().unwrap_or(Level::Best)
            }
        }
    }
}

/// How our INFO names what is configured; `None`: not at all, as servers did before there was any.
pub(crate) fn said(own: &Compression) -> Option<&'static str> {
    Some(match own {
        Compression::NotSupported => return None,
        Compression::Off => "off",
        Compression::Accept => "accept",
        Compression::Fast => Level::Fast.name(),
        Compression::Better => Level::Better.name(),
        Compression::Best => Level::Best.name(),
        Compression::Auto(_) => "s2_auto",
    })
}

/// Chooses for a link whose other side says `peer` in its INFO.
pub(crate) fn choose(own: &Compression, peer: Option<&str>) -> Result<Choice, ProtoError> {
    let own_mode = match own {
        Compression::NotSupported => return Ok(Choice::Clear("not supported")),
        Compression::Off => return Ok(Choice::Clear("off")),
        Compression::Accept => None,
        Compression::Fast => Some(Mode::Fixed(Level::Fast)),
        Compression::Better => Some(Mode::Fixed(Level::Better)),
        Compression::Best => Some(Mode::Fixed(Level::Best)),
        Compression::Auto(thresholds) => Some(Mode::Auto(thresholds.clone())),
    };
    let peer_mode = match peer.unwrap_or_default() {
        "" | "not supported" => return Ok(Choice::Clear("not supported")),
        "off" => return Ok(Choice::Clear("off")),
        "accept" => None,
        // What compresses by the round trip compresses.
        "s2_auto" | "s2_fast" => Some(Mode::Fixed(Level::Fast)),
        "s2_uncompressed" => Some(Mode::Fixed(Level::Uncompressed)),
        "s2_better" => Some(Mode::Fixed(Level::Better)),
        "s2_best" => Some(Mode::Fixed(Level::Best)),
        other => return Err(ProtoError::UnknownCompression(other.into())),
    };
    Ok(match own_mode.or(peer_mode) {
        Some(mode) => Choice::S2(mode),
        None => Choice::Clear("off"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the leaf protocol, compression modes.
    #[test]
    fn pairs() {
        let auto = Compression::default();
        let fixed = |level| Ok(Choice::S2(Mode::Fixed(level)));
        let clear = |said| Ok(Choice::Clear(said));
        let rows = [
            (Compression::Off, Some("s2_auto"), clear("off")),
            (
                Compression::NotSupported,
                Some("s2_fast"),
                clear("not supported"),
            ),
            (auto.clone(), None, clear("not supported")),
            (auto.clone(), Some("not supported"), clear("not supported")),
            (auto.clone(), Some("off"), clear("off")),
            (Compression::Accept, Some("accept"), clear("off")),
            (Compression::Accept, Some("s2_auto"), fixed(Level::Fast)),
            (Compression::Accept, Some("s2_best"), fixed(Level::Best)),
            (Compression::Better, Some("accept"), fixed(Level::Better)),
            (Compression::Fast, Some("s2_best"), fixed(Level::Fast)),
            (
                auto.clone(),
                Some("s2_fast"),
                Ok(Choice::S2(Mode::Auto(
                    [10, 50, 100].map(Duration::from_millis).to_vec(),
                ))),
            ),
            (
                auto,
                Some("x"),
                Err(ProtoError::UnknownCompression("x".into())),
            ),
        ];
        for (own, peer, want) in rows {
            assert_eq!(choose(&own, peer), want, "{own:?} with {peer:?}");
        }
    }

    #[test]
    fn levels_follow_the_round_trip() {
        let ms = Duration::from_millis;
        let level = |thresholds: &[u64], trip| {
            Mode::Auto(thresholds.iter().copied().map(ms).collect()).level(Some(ms(trip)))
        };
        for (trip, want) in [
            (0, Level::Uncompressed),
            (10, Level::Uncompressed),
            (11, Level::Fast),
            (50, Level::Fast),
            (99, Level::Better),
            (101, Level::Best),
        ] {
            assert_eq!(level(&[10, 50, 100], trip), want, "{trip}");
        }
        // Never uncompressed, and never better than fast.
        assert_eq!(level(&[0, 50], 1), Level::Fast);
        assert_eq!(level(&[10], 500), Level::Uncompressed);
        assert_eq!(level(&[0, 50], 500), Level::Fast);
        assert_eq!(level(&[10, 20, 30, 40], 500), Level::Best);
        assert_eq!(Mode::Auto(vec![ms(10)]).level(None), Level::Uncompressed);
    }
}
