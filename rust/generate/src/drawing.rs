//! A sequence's draws of one step.

use moevolve_model::draw::{Draw, DrawnToken, Sampler};

use crate::sampling::Finish;
use crate::sequence::Sequence;

/// Draws for a sequence with logits: tokens while they are those that were drafted, and one more; before the first of
/// them, those of its forks.
pub struct Drawing<'a> {
    sequence: &'a mut Sequence,
    /// The model's end tokens.
    eos: &'a [u32],
    /// Row of the logits that the next draw is from.
    row: usize,
    /// Drafts that were drawn.
    drafted: usize,
    /// Forks that have drawn from this row.
    forks: usize,
    ended: bool,
}

impl<'a> Drawing<'a> {
    /// Of a sequence whose logits begin at `row`.
    pub fn new(sequence: &'a mut Sequence, row: usize, eos: &'a [u32]) -> Self {
        Self {
            sequence,
            eos,
            row,
            drafted: 0,
            forks: 0,
            ended: false,
        }
    }
}

impl Sampler for Drawing<'_> {
    fn next(&mut self) -> Option<Draw> {
        let Sequence {
            sampling,
            draws,
            forks,
            ..
        } = &*self.sequence;
        let draws = forks.get(self.forks).unwrap_or(draws);
        (!self.ended).then(|| draws.next(sampling, self.row))
    }

    fn bend(&mut self, logits: &mut [f32]) -> bool {
        let Sequence {
            sampling,
            draws,
            forks,
            ..
        } = &mut *self.sequence;
        if let Some(fork) = forks.get_mut(self.forks) {
            let drawn = fork.bend(sampling, self.eos, logits);
            self.forks += usize::from(!drawn);
            return drawn;
        }
        self.ended = !draws.bend(sampling, self.eos, logits);
        !self.ended
    }

    fn refuse(&mut self) {
        let Sequence { draws, forks, .. } = &mut *self.sequence;
        if let Some(fork) = forks.get_mut(self.forks) {
            fork.finish = Some(Finish::NotFinite);
            self.forks += 1;
            return;
        }
        draws.finish = Some(Finish::NotFinite);
        self.ended = true;
    }

    fn take(&mut self, drawn: DrawnToken) {
        let Sequence {
            sampling,
            ids,
            draws,
            forks,
            drafts,
            ..
        } = &mut *self.sequence;
        if let Some(fork) = forks.get_mut(self.forks) {
            fork.take(sampling, self.eos, drawn);
            self.forks += 1;
            return;
        }
        let token = draws.take(sampling, self.eos, drawn);
        ids.extend(token);
        self.ended = draws.finish.is_some() || token != drafts.get(self.drafted).copied();
        self.row += 1;
        self.drafted += 1;
        self.forks = 0;
    }
}
