//! What to do when space runs out: delete what may go, pause, say so in the log, go on.

use super::Writer;
use crate::disk::Space;
use crate::journal::config::clocks;
use crate::journal::log::Expired;
use glasshive_event::Kind;
use glasshive_event::detail::{Gap, Health, Loss};
use std::time::Instant;

impl Writer {
    /// What stands against storing more: no space, or the quota. Deletes what may be deleted first.
    pub(super) fn obstacle(&mut self, resuming: bool) -> Option<String> {
        if self.closing {
            // What was accepted may use the room that is kept free; only a really full disk refuses it.
            return None;
        }
        let Ok(space) = Space::of(&self.config.dir) else { return None };
        let floor = space.floor();
        // Resuming needs a little more, so that the state does not flicker.
        let need = if resuming { floor.saturating_add(floor / 8) } else { floor };
        if space.free < need {
            self.expire();
            let free = Space::of(&self.config.dir).map_or(0, |space| space.free);
            if free < need {
                return Some(format!(
                    "{}: {} MiB free on its disk, {} MiB must stay free; make room there",
                    self.config.dir.display(),
                    free >> 20,
                    need.div_ceil(1 << 20)
                ));
            }
        }
        if self.log.used_bytes() > self.config.quota_bytes && self.expire() == Expired::Over {
            return Some(format!(
                "the journal's quota of {} MiB is full of records the controller has not acknowledged; bring the link up or raise the quota",
                self.config.quota_bytes >> 20
            ));
        }
        None
    }

    pub(super) fn pause(&mut self, why: String) {
        if self.paused.is_none() {
            tracing::error!(why, "the journal accepts nothing until this is over");
            self.tell_pause(&why);
            self.paused = Some((why, Instant::now()));
        }
    }

    /// The controller learns of a pause at its beginning: no heartbeat comes through until its end. The room for this
    /// one record is what must stay free, or the reserve.
    fn tell_pause(&mut self, why: &str) {
        let fields = serde_json::Map::from_iter([("paused".to_owned(), why.into())]);
        let health = Health { what: "paused".to_owned(), message: why.to_owned(), fields };
        if self.write_own(Kind::Health, &health).is_err() {
            tracing::warn!("the controller is not told of this pause before its end");
        }
    }

    /// Looks whether a pause is over; the log says how long it was.
    pub(super) fn resume(&mut self) {
        let Some((_, since)) = &self.paused else { return };
        let lasted = since.elapsed();
        if let Some(why) = self.obstacle(true) {
            if let Some((told, _)) = &mut self.paused {
                *told = why;
            }
            return;
        }
        let Some((why, since)) = self.paused.take() else { return };
        let loss = Loss {
            place: "accept_paused".to_owned(),
            why: format!(
                "accepting was paused for {:.1} s: {why}; visitors waited in the kernel's backlog, those it had no room for are not in this log",
                lasted.as_secs_f64()
            ),
            ..Loss::default()
        };
        if let Err(e) = self.write_own(Kind::Loss, &loss) {
            self.paused = Some((why, since));
            self.failed(e);
            return;
        }
        tracing::info!(seconds = lasted.as_secs(), "the journal accepts again");
    }

    /// Retention. Under `drop_oldest` a `gap` record is durable before the segment goes.
    pub(super) fn expire(&mut self) -> Expired {
        let deletable = if self.config.standalone { u64::MAX } else { self.state.acknowledged };
        let (wall_ns, _) = clocks();
        let before = wall_ns.saturating_sub(i64::try_from(self.config.max_age.as_nanos()).unwrap_or(i64::MAX));
        let dir = self.config.dir.clone();
        loop {
            let pressed = || Space::of(&dir).is_ok_and(|space| space.free < space.floor());
            let found = self.log.expire(deletable, before, self.config.quota_bytes, self.config.on_full, pressed);
            let Expired::Oldest(from, to) = found else {
                self.publish_measures();
                return found;
            };
            let gap = Gap {
                from: Some(from),
                to: Some(to),
                log: None,
                why: "deleted before the controller had it, because the journal's quota or disk is full and on_full is drop_oldest"
                    .to_owned(),
            };
            if self.write_own(Kind::Gap, &gap).is_err() {
                return Expired::Over;
            }
            self.log.drop_oldest();
        }
    }
}
