//! Sampling: ragged prompts, a cache of keys and values a sample, finished samples replaced as they end.

use moevolve_kernels::attention::{Memory, attend, remember};
use moevolve_kernels::loss::log_sum_exp;
use moevolve_kernels::sample::{greedy, nucleus, uniform};
use moevolve_kernels::{padded, reserve};

use crate::batch::{Asking, Packed, Positions};
use crate::decoder::{Inference, Network};
use crate::engine::{Request, Sample};

/// Samples that one thread decodes together.
const ACTIVE: usize = 64;

/// Prompt tokens that one thread reads together.
const PREFILL: usize = 1024;

/// Samples of one prompt that are decoded together; the prompt is read once for all of them.
struct Job<'a> {
    request: &'a Request,
    keys: &'a [u64],
}

/// Keys and values of all layers for one sample.
#[derive(Clone)]
struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
    stride: usize,
}

/// How a sample is drawn.
#[derive(Clone, Copy)]
struct Settings {
    /// Most tokens.
    most: usize,
    temperature: f32,
    top_p: f32,
}

impl Settings {
    fn new(network: Network<'_>, request: &Request) -> Self {
        let room = network
            .config
            .positions
            .saturating_sub(request.prompt.len())
            + 1;
        Self {
            most: request.max_tokens.min(room),
            temperature: request.temperature,
            top_p: request.top_p,
        }
    }
}

/// A sample that is not finished.
#[derive(Clone)]
struct Active {
    settings: Settings,
    key: u64,
    /// Where it goes in the thread's results.
    place: usize,
    /// The token to read next, and its position.
    next: u32,
    position: usize,
    cache: Cache,
    sample: Sample,
}

/// One sample, token by token as it is asked for.
pub struct Stream {
    worker: Worker,
    active: Vec<Active>,
    finished: Vec<Option<Sample>>,
    told: usize,
}

impl Stream {
    /// Reads the prompt of a request for one sample and draws its first token.
    pub fn new(network: Network<'_>, request: &Request) -> Self {
        let mut stream = Self {
            worker: Worker::default(),
            active: Vec::new(),
            finished: vec![None],
            told: 0,
        };
        let job = Job {
            request,
            keys: &request.keys[..1],
        };
        let Self {
            worker,
            active,
            finished,
            ..
        } = &mut stream;
        worker.read_prompts(network, &[job], &mut 0, active, finished);
        stream
    }

    /// The next token and its log-probability at temperature 1, or None at the end.
    pub fn next(&mut self, network: Network<'_>) -> Option<(u32, f32)> {
        loop {
            let sample = match (&self.finished[0], self.active.first()) {
                (Some(done), _) => done,
                (None, Some(active)) => &active.sample,
                (None, None) => return None,
            };
            if let Some(&token) = sample.tokens.get(self.told) {
                let logprob = sample.logprobs[self.told];
                self.told += 1;
                return Some((token, logprob));
            }
            if self.finished[0].is_some() {
                return None;
            }
            self.worker.step(network, &mut self.active);
            retire(&mut self.active, &mut self.finished);
        }
    }

    /// Whether an end token came, once the sample has ended.
    pub fn stopped(&self) -> Option<bool> {
        self.finished[0].as_ref().map(|sample| sample.stopped)
    }
}

/// All samples of all requests, in order, dealt out to `hands` threads of the team.
pub fn generate(
    network: Network<'_>,
    requests: &[Request],
    hands: usize,
    workers: &mut Vec<Worker>,
) -> Vec<Vec<Sample>> {
    let dealt = deal(requests, hands);
    workers.resize_with(workers.len().max(dealt.len()), Worker::default);
    let mut hands: Vec<_> = workers
        .iter_mut()
        .zip(dealt)
        .map(|(worker, jobs)| (worker, jobs, Vec::new()))
        .collect();
    network
        .team
        .each(&mut hands, &|(worker, jobs, samples), _| {
            *samples = worker.run(network, jobs);
        });
    let mut samples = hands.into_iter().flat_map(|(_, _, samples)| samples);
    requests
        .iter()
        .map(|request| samples.by_ref().take(request.keys.len()).collect())
        .collect()
}

/// Contiguous parts of the samples, of equal number, split into jobs.
fn deal(requests: &[Request], most: usize) -> Vec<Vec<Job<'_>>> {
    let all: usize = requests.iter().map(|request| request.keys.len()).sum();
    let mut hands: Vec<Vec<Job<'_>>> = vec![Vec::new()];
    let mut dealt = 0;
    for request in requests {
        let mut keys = &request.keys[..];
        while !keys.is_empty() {
            let end = (all * hands.len()).div_ceil(most);
            if dealt == end {
                hands.push(Vec::new());
                continue;
            }
            let (now, later) = keys.split_at(keys.len().min(end - dealt).min(ACTIVE));
            dealt += now.len();
            hands
                .last_mut()
                .expect("never empty")
                .push(Job { request, keys: now });
            keys = later;
        }
    }
    hands
}

/// One thread's buffers.
#[derive(Clone, Default)]
pub struct Worker {
    pass: Inference,
    weights: Vec<(f64, usize)>,
}

impl Worker {
    fn run(&mut self, network: Network<'_>, jobs: &[Job<'_>]) -> Vec<Sample> {
        let total = jobs.iter().map(|job| job.keys.len()).sum();
        let mut finished: Vec<Option<Sample>> = vec![None; total];
        let mut active: Vec<Active> = Vec::new();
        let (mut waiting, mut place) = (jobs, 0);
        loop {
            let (mut tokens, mut samples, mut n) = (0, active.len(), 0);
            while let Some(job) = waiting.get(n) {
                let fits = samples + job.keys.len() <= ACTIVE
                    && (n == 0 || tokens + job.request.prompt.len() <= PREFILL);
                if !fits {
                    break;
                }
                tokens += job.request.prompt.len();
                samples += job.keys.len();
                n += 1;
            }
            let (now, later) = waiting.split_at(n);
            if !now.is_empty() {
                self.read_prompts(network, now, &mut place, &mut active, &mut finished);
                waiting = later;
            }
            if active.is_empty() {
                if waiting.is_empty() {
                    break;
                }
                continue;
            }
            self.step(network, &mut active);
            retire(&mut active, &mut finished);
        }
        finished
            .into_iter()
            .map(|sample| sample.expect("every sample ends"))
            .collect()
    }

    /// Reads prompts, draws the first token of each sample, and gives it a copy of its prompt's cache.
    fn read_prompts(
        &mut self,
        network: Network<'_>,
        jobs: &[Job<'_>],
        place: &mut usize,
        active: &mut Vec<Active>,
        finished: &mut [Option<Sample>],
    ) {
        let mut batch = Packed::default();
        batch.clear();
        for job in jobs {
            let n = job.request.prompt.len();
            batch.push(&job.request.prompt, &Positions::From(0), n - 1..n);
        }
        let (heads, w) = (network.heads(), network.layout.widths);
        let mut caches: Vec<Cache> = jobs
            .iter()
            .map(|job| Cache::new(network, job.request))
            .collect();
        self.pass.run(network, &batch, |layer, a| {
            for (span, cache) in batch.every.spans.iter().zip(&mut caches) {
                let keys = (&a.keys[span.start * w.keys..], w.keys);
                let values = (
                    &a.key_values[span.start * 2 * w.keys + w.keys..],
                    2 * w.keys,
                );
                let (stride, size) = (cache.stride, w.keys * cache.stride);
                let key_memory = &mut cache.keys[layer * size..][..size];
                let value_memory = &mut cache.values[layer * size..][..size];
                remember(
                    heads,
                    span.len(),
                    0,
                    keys,
                    values,
                    stride,
                    key_memory,
                    value_memory,
                );
            }
        });
        for (row, (job, cache)) in jobs.iter().zip(&caches).enumerate() {
            for &key in job.keys {
                let mut sample = Active {
                    settings: Settings::new(network, job.request),
                    key,
                    place: *place,
                    next: 0,
                    position: job.request.prompt.len(),
                    cache: Cache {
                        keys: Vec::new(),
                        values: Vec::new(),
                        stride: 0,
                    },
                    sample: Sample::default(),
                };
                *place += 1;
                if self.draw(network, row, &mut sample) {
                    finished[sample.place] = Some(sample.sample);
                } else {
                    sample.cache = cache.clone();
                    active.push(sample);
                }
            }
        }
    }

    /// One token of every active sample.
    fn step(&mut self, network: Network<'_>, active: &mut [Active]) {
        let mut asking = Asking {
            whole: true,
            ..Asking::default()
        };
        let ids: Vec<u32> = active.iter().map(|sample| sample.next).collect();
        for (row, sample) in active.iter().enumerate() {
            asking.rows.push(row as u32);
            asking.last.push(sample.position as u32);
            asking.positions.push(sample.position as u32);
        }
        let (heads, w) = (network.heads(), network.layout.widths);
        let Inference {
            activations: a,
            buffers,
            output,
            ..
        } = &mut self.pass;
        network.embed(&ids, &mut a.input);
        for (index, layer) in network.layout.layers.iter().enumerate() {
            network.project(layer, &asking, &asking, a, buffers);
            reserve(&mut a.attended, active.len() * w.queries);
            for (row, sample) in active.iter_mut().enumerate() {
                let cache = &mut sample.cache;
                let (stride, size) = (cache.stride, w.keys * cache.stride);
                let key_memory = &mut cache.keys[index * size..][..size];
                let value_memory = &mut cache.values[index * size..][..size];
                let keys = (&a.keys[row * w.keys..], w.keys);
                let values = (&a.key_values[row * 2 * w.keys + w.keys..], 2 * w.keys);
                remember(
                    heads,
                    1,
                    sample.position,
                    keys,
                    values,
                    stride,
                    key_memory,
                    value_memory,
                );
                reserve(&mut buffers.probabilities, heads.queries * stride);
                attend(
                    network.isa,
                    heads,
                    Memory {
                        keys: key_memory,
                        values: value_memory,
                        stride,
                    },
                    &asking.last[row..=row],
                    &a.queries[row * w.queries..],
                    &mut buffers.probabilities,
                    false,
                    &mut a.attended[row * w.queries..],
                );
            }
            network.finish(index, &asking, a, buffers, output);
            std::mem::swap(&mut a.input, output);
        }
        network.logits(
            active.len(),
            &self.pass.activations.input,
            &mut self.pass.last,
        );
        for (row, sample) in active.iter_mut().enumerate() {
            sample.position += 1;
            sample.sample.finished = self.draw(network, row, sample);
        }
    }

    /// Draws the next token of a sample from a row of logits; true if that ends it.
    fn draw(&mut self, network: Network<'_>, row: usize, active: &mut Active) -> bool {
        let Settings {
            most,
            temperature,
            top_p,
        } = active.settings;
        let sample = &mut active.sample;
        if most == 0 {
            return true;
        }
        let width = network.layout.widths.vocabulary;
        let padded_row = &self.pass.last.logits[row * width..][..width];
        let logits = &padded_row[..network.config.vocabulary];
        let token = if temperature == 0.0 {
            greedy(logits)
        } else {
            let u = uniform(active.key, sample.tokens.len() as u64);
            nucleus(logits, temperature, top_p, u, &mut self.weights)
        };
        sample
            .logprobs
            .push(logits[token] - log_sum_exp(network.isa, network.config.vocabulary, padded_row));
        active.next = token as u32;
        if network.config.eos.contains(&active.next) {
            sample.stopped = true;
            return true;
        }
        sample.tokens.push(active.next);
        sample.tokens.len() == most
    }
}

impl Cache {
    /// Room for a request's prompt and all it may generate.
    fn new(network: Network<'_>, request: &Request) -> Self {
        let stride =
            padded(request.prompt.len() + request.max_tokens.min(network.config.positions));
        let size = network.config.layers * network.layout.widths.keys * stride;
        Self {
            keys: vec![0.0; size],
            values: vec![0.0; size],
            stride,
        }
    }
}

/// Moves finished samples out; the others close up.
fn retire(active: &mut Vec<Active>, finished: &mut [Option<Sample>]) {
    let mut i = 0;
    while i < active.len() {
        if active[i].sample.finished {
            let done = active.swap_remove(i);
            finished[done.place] = Some(done.sample);
        } else {
            i += 1;
        }
    }
}
