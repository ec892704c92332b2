//! The loss of a batch's output rows and its gradient by the logits.

use moevolve_kernels::loss::{cross_entropy, entropy, log_sum_exp};

use super::Cpu;
use crate::objective::{LossTargets, Sums};

impl Cpu<'_> {
    /// Turns logits (rows, padded vocabulary) into the gradient of the scaled loss, which it returns.
    ///
    /// The gradient of a policy's token is that of its cross-entropy times minus the slope of its loss by the
    /// log-probability.
    pub(super) fn loss_and_gradient(
        &self,
        targets: LossTargets<'_>,
        logits: &mut [f32],
        sums: &mut Sums,
    ) -> f64 {
        let LossTargets {
            tokens,
            scale,
            policy,
        } = targets;
        let (vocabulary, width) = (self.config.vocabulary, self.layout.widths.vocabulary);
        let logits = &mut logits[..tokens.len() * width];
        let mut loss = 0.0;
        if let Some((objective, targets)) = policy {
            let rows = logits.chunks_exact(width);
            for (row, (logits, target)) in rows.zip(targets).enumerate() {
                let total = log_sum_exp(self.isa, vocabulary, logits);
                let logprob = logits[tokens[row] as usize] - total;
                let token = objective.token(*target, logprob);
                let share = f64::from(scale[row]);
                loss += share * token.loss;
                sums.add(&token, entropy(self.isa, vocabulary, logits));
                scale[row] = (-share * token.slope) as f32;
            }
        }
        let entropies = cross_entropy(self.isa, vocabulary, width, tokens, scale, logits);
        if policy.is_none() {
            loss = entropies;
        }
        loss
    }
}
