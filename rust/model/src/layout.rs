//! Where every tensor lies in the flat, padded parameters, and its released name.
//!
//! One file above 400 lines: names and offsets of one tensor stand side by side, so that a family's layout is read in one place.

use std::ops::Range;

use moevolve_kernels::delta::Sizes;
use moevolve_kernels::experts::{ExpertBiases, ExpertRanges, Shape};
use moevolve_kernels::route::Rule;
use moevolve_kernels::{LANES, padded};

use crate::config::Config;
use crate::family::QkNorm;

/// One dimension: `groups` pieces of `size` floats, each padded to whole vectors.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    pub groups: usize,
    pub size: usize,
}

impl Axis {
    fn plain(size: usize) -> Self {
        Self { groups: 1, size }
    }

    pub fn length(self) -> usize {
        self.groups * self.size
    }

    pub fn padded(self) -> usize {
        self.groups * padded(self.size)
    }

    /// Puts values at their padded offsets.
    pub fn pad(self, values: &[f32], out: &mut [f32]) {
        for (offset, &value) in self.offsets().zip(values) {
            out[offset] = value;
        }
    }

    /// The opposite of [`Self::pad`].
    pub fn unpad(self, padded: &[f32]) -> Vec<f32> {
        self.offsets().map(|offset| padded[offset]).collect()
    }

    /// Padded offset of a true index.
    fn offset(self, index: usize) -> usize {
        index / self.size * padded(self.size) + index % self.size
    }

    /// Padded offset of each true index.
    pub fn offsets(self) -> impl Iterator<Item = usize> {
        (0..self.groups)
            .flat_map(move |group| (0..self.size).map(move |i| group * padded(self.size) + i))
    }
}

/// A tensor of a checkpoint: its released name and its offset in the parameters.
#[derive(Clone, Debug)]
pub struct TensorLayout {
    pub name: String,
    pub at: usize,
    /// None for a vector.
    pub rows: Option<Axis>,
    pub columns: Axis,
    /// Whether a vector is a convolution's: each group the weights of a channel, (channels, 1, taps) in a checkpoint.
    pub depthwise: bool,
}

impl TensorLayout {
    /// The shape in a checkpoint.
    pub fn shape(&self) -> Vec<usize> {
        if self.depthwise {
            return vec![self.columns.groups, 1, self.columns.size];
        }
        self.rows
            .iter()
            .map(|rows| rows.length())
            .chain([self.columns.length()])
            .collect()
    }

    /// Numbers in the parameters, padding included.
    pub fn padded(&self) -> usize {
        self.rows.map_or(1, Axis::padded) * self.columns.padded()
    }

    /// A gain, which starts at one.
    pub fn is_norm(&self) -> bool {
        self.rows.is_none() && self.name.ends_with("norm.weight")
    }

    /// What starts at zero.
    pub fn is_bias(&self) -> bool {
        self.rows.is_none() && self.name.ends_with(".bias")
    }

    fn rows(&self) -> impl Iterator<Item = usize> {
        self.rows.unwrap_or(Axis::plain(1)).offsets()
    }

    /// The tensor's values without padding.
    pub fn extract(&self, parameters: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.shape().iter().product());
        for row in self.rows() {
            let row = &parameters[self.at + row * self.columns.padded()..][..self.columns.padded()];
            out.extend(self.columns.offsets().map(|column| row[column]));
        }
        out
    }

    /// Appends rows of the tensor without padding; the rows of a vector are its numbers.
    pub fn extract_rows(&self, parameters: &[f32], rows: Range<usize>, out: &mut Vec<f32>) {
        let Axis { groups, size } = self.columns;
        match self.rows {
            None => {
                let each = if self.depthwise { size } else { 1 };
                let numbers = rows.start * each..rows.end * each;
                out.extend(numbers.map(|i| parameters[self.at + self.columns.offset(i)]));
            }
            Some(axis) => {
                for row in rows {
                    let row = &parameters[self.at + axis.offset(row) * self.columns.padded()..];
                    for group in 0..groups {
                        out.extend_from_slice(&row[group * padded(size)..][..size]);
                    }
                }
            }
        }
    }

    /// Puts values without padding into the parameters.
    pub fn insert(&self, values: &[f32], parameters: &mut [f32]) {
        let mut values = values.iter();
        for row in self.rows() {
            let row =
                &mut parameters[self.at + row * self.columns.padded()..][..self.columns.padded()];
            for (column, &value) in self.columns.offsets().zip(&mut values) {
                row[column] = value;
            }
        }
    }
}

/// A matrix that a product uses: (out, inp), both padded.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub range: Range<usize>,
    pub out: usize,
    pub inp: usize,
}

#[derive(Clone, Debug)]
pub struct Layer {
    pub range: Range<usize>,
    pub input_norm: Range<usize>,
    pub mixer: Mixer,
    pub middle_norm: Range<usize>,
    pub experts: ExpertRanges,
    pub shared: Option<SharedExpert>,
}

/// How tokens of a text learn of each other.
#[derive(Clone, Debug)]
pub enum Mixer {
    Attention(Attention),
    Linear(LinearAttention),
}

impl Layer {
    /// Attention to keys.
    ///
    /// # Panics
    /// If the layer's is linear: the walk over the layers asks before.
    pub fn attention(&self) -> &Attention {
        match &self.mixer {
            Mixer::Attention(attention) => attention,
            Mixer::Linear(_) => panic!("a layer of linear attention has no keys"),
        }
    }

    /// From what attention gives to the residual, and what is added.
    pub fn output(&self) -> (&Matrix, Option<&Range<usize>>) {
        match &self.mixer {
            Mixer::Attention(attention) => {
                let biases = attention.biases.as_ref();
                let bias = biases.and_then(|biases| biases.output.as_ref());
                (&attention.output, bias)
            }
            Mixer::Linear(linear) => (&linear.output, None),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Attention {
    /// Which of the layers with keys and values this is.
    pub index: usize,
    /// Each head's query over its gate, where the family has gates.
    pub query: Matrix,
    /// Keys over values.
    pub key_value: Matrix,
    /// Biases of the projections, where the family has them.
    pub biases: Option<Biases>,
    /// Gains of queries and of keys, where the family has them.
    pub qk_norms: Option<[Range<usize>; 2]>,
    /// One logit a query head, where the family has them: see [`moevolve_kernels::attention::Reach`].
    pub sinks: Option<Range<usize>>,
    pub output: Matrix,
}

/// Linear attention: see [`moevolve_kernels::delta`].
#[derive(Clone, Debug)]
pub struct LinearAttention {
    /// Which of the layers with a state this is.
    pub index: usize,
    /// Queries, keys and values, before they are convolved.
    pub channels: Matrix,
    /// What gates the output.
    pub gate: Matrix,
    /// One number a value head: how much of a value is taken in, and what decay depends on.
    pub strength: Matrix,
    pub decay: Matrix,
    pub taps: Range<usize>,
    pub decay_bias: Range<usize>,
    /// Logarithm of the rate.
    pub rate: Range<usize>,
    pub norm: Range<usize>,
    pub output: Matrix,
}

/// The expert that takes every token.
#[derive(Clone, Debug)]
pub struct SharedExpert {
    pub gate_up: Matrix,
    pub down: Matrix,
    /// One number a token, which weighs it.
    pub gate: Matrix,
}

/// Biases of attention's projections.
#[derive(Clone, Debug)]
pub struct Biases {
    pub query: Range<usize>,
    /// Keys, then values.
    pub key_value: Range<usize>,
    pub output: Option<Range<usize>>,
}

/// Padded widths of activations.
#[derive(Clone, Copy, Debug)]
pub struct Widths {
    pub hidden: usize,
    pub head: usize,
    pub queries: usize,
    pub keys: usize,
    pub intermediate: usize,
    pub experts: usize,
    pub vocabulary: usize,
    /// Of the expert that takes every token, and of a layer's linear attention; 0 where there is none.
    pub shared: usize,
    pub channels: usize,
    pub values: usize,
    pub value_heads: usize,
}

/// The whole parameter buffer.
#[derive(Clone, Debug)]
pub struct Layout {
    pub widths: Widths,
    pub embedding: Matrix,
    pub layers: Vec<Layer>,
    pub final_norm: Range<usize>,
    /// The embedding itself if the model ties them.
    pub head: Matrix,
    pub total: usize,
    /// Every trained tensor in canonical order.
    pub tensors: Vec<TensorLayout>,
}

struct Builder {
    total: usize,
    tensors: Vec<TensorLayout>,
}

impl Builder {
    fn tensor(&mut self, name: String, rows: Option<Axis>, columns: Axis) -> Range<usize> {
        let at = self.total;
        // A matrix of heads has whole heads for rows; every other row count is padded too.
        let height = rows.map_or(1, |rows| rows.padded());
        self.total += height * columns.padded();
        self.tensors.push(TensorLayout {
            name,
            at,
            rows,
            columns,
            depthwise: false,
        });
        at..self.total
    }

    /// A convolution's weights.
    fn depthwise(&mut self, name: String, channels: usize, taps: usize) -> Range<usize> {
        let columns = Axis {
            groups: channels,
            size: taps,
        };
        let range = self.tensor(name, None, columns);
        if let Some(last) = self.tensors.last_mut() {
            last.depthwise = true;
        }
        range
    }

    fn matrix(&mut self, name: String, rows: Axis, columns: Axis) -> Matrix {
        let range = self.tensor(name, Some(rows), columns);
        Matrix {
            range,
            out: rows.padded(),
            inp: columns.padded(),
        }
    }

    /// Two matrices of one input width, one over the other.
    fn stacked(&mut self, names: [String; 2], rows: Axis, columns: Axis) -> Matrix {
        let [first, second] = names.map(|name| self.matrix(name, rows, columns));
        Matrix {
            range: first.range.start..second.range.end,
            out: first.out + second.out,
            inp: first.inp,
        }
    }

    /// Attention to keys of layer `l`.
    fn attention(&mut self, config: &Config, l: usize, index: usize) -> Attention {
        let described = config.family.describe();
        let hidden = Axis::plain(config.hidden);
        let heads = |groups: usize| Axis {
            groups,
            size: config.head,
        };
        let (queries, keys) = (heads(config.heads), heads(config.key_heads));
        // The norms of queries and keys: over all heads, or one gain for each of them.
        let gains = match config.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some([Axis::plain(config.head); 2]),
            QkNorm::Whole => Some([queries, keys]),
        };
        let asked = if described.extras.linear {
            heads(2 * config.heads)
        } else {
            queries
        };
        let name = |part: &str| format!("model.layers.{l}.self_attn.{part}.weight");
        let bias = |part: &str| format!("model.layers.{l}.self_attn.{part}.bias");
        let query = self.matrix(name("q_proj"), asked, hidden);
        let key_value = self.stacked([name("k_proj"), name("v_proj")], keys, hidden);
        let qk_norms = gains.map(|[query, key]| {
            [
                self.tensor(name("q_norm"), None, query),
                self.tensor(name("k_norm"), None, key),
            ]
        });
        let output = self.matrix(name("o_proj"), hidden, queries);
        let sinks = described.sinks.then(|| {
            let heads = Axis::plain(config.heads);
            self.tensor(format!("model.layers.{l}.self_attn.sinks"), None, heads)
        });
        let biases = config.attention_bias.then(|| {
            let query = self.tensor(bias("q_proj"), None, asked);
            let key = self.tensor(bias("k_proj"), None, keys);
            let value = self.tensor(bias("v_proj"), None, keys);
            let output = config.output_bias;
            Biases {
                query,
                key_value: key.start..value.end,
                output: output.then(|| self.tensor(bias("o_proj"), None, hidden)),
            }
        });
        Attention {
            index,
            query,
            key_value,
            biases,
            qk_norms,
            sinks,
            output,
        }
    }

    /// Linear attention of layer `l`.
    fn linear_attention(
        &mut self,
        config: &Config,
        sizes: Sizes,
        l: usize,
        index: usize,
    ) -> LinearAttention {
        let hidden = Axis::plain(config.hidden);
        let heads = Axis::plain(sizes.value_heads);
        let values = Axis::plain(sizes.value_heads * sizes.value);
        let named = |part: &str| format!("model.layers.{l}.linear_attn.{part}");
        let weight = |part: &str| named(&format!("{part}.weight"));
        let channels = Axis::plain(sizes.channels());
        LinearAttention {
            index,
            channels: self.matrix(weight("in_proj_qkv"), channels, hidden),
            gate: self.matrix(weight("in_proj_z"), values, hidden),
            strength: self.matrix(weight("in_proj_b"), heads, hidden),
            decay: self.matrix(weight("in_proj_a"), heads, hidden),
            taps: self.depthwise(weight("conv1d"), sizes.channels(), sizes.taps),
            decay_bias: self.tensor(named("dt_bias"), None, heads),
            rate: self.tensor(named("A_log"), None, heads),
            norm: self.tensor(weight("norm"), None, Axis::plain(sizes.value)),
            output: self.matrix(weight("out_proj"), hidden, values),
        }
    }

    /// The expert that takes every token.
    fn shared_expert(&mut self, config: &Config, l: usize) -> SharedExpert {
        let block = config.family.describe().block;
        let (hidden, inner) = (Axis::plain(config.hidden), Axis::plain(config.shared));
        let named = |part: &str| format!("model.layers.{l}.{block}.{part}.weight");
        let part = |part: &str| named(&format!("shared_expert.{part}"));
        SharedExpert {
            gate_up: self.stacked([part("gate_proj"), part("up_proj")], inner, hidden),
            down: self.matrix(part("down_proj"), hidden, inner),
            gate: self.matrix(named("shared_expert_gate"), Axis::plain(1), hidden),
        }
    }
}

impl Layout {
    pub fn new(config: &Config) -> Self {
        let hidden = Axis::plain(config.hidden);
        let inner = Axis::plain(config.intermediate);
        let queries = Axis {
            groups: config.heads,
            size: config.head,
        };
        let keys = Axis {
            groups: config.key_heads,
            size: config.head,
        };
        let vocabulary = Axis::plain(config.vocabulary);
        let described = config.family.describe();
        let mut b = Builder {
            total: 0,
            tensors: Vec::new(),
        };
        let embedding = b.matrix("model.embed_tokens.weight".to_owned(), vocabulary, hidden);
        let (mut keyed, mut recurrent) = (0, 0);
        let layers = (0..config.layers)
            .map(|l| {
                let start = b.total;
                let name = |part: &str| format!("model.layers.{l}.{part}.weight");
                let expert = |e: usize, part: usize| described.expert_name(l, e, part);
                let input_norm = b.tensor(name("input_layernorm"), None, hidden);
                let mixer = match &config.linear {
                    Some(linear) if linear.is(l) => {
                        recurrent += 1;
                        let index = recurrent - 1;
                        Mixer::Linear(b.linear_attention(config, linear.sizes, l, index))
                    }
                    _ => {
                        keyed += 1;
                        Mixer::Attention(b.attention(config, l, keyed - 1))
                    }
                };
                let middle_norm = b.tensor(name("post_attention_layernorm"), None, hidden);
                let router = match config.rule {
                    Rule::Dense => b.total..b.total,
                    _ => {
                        let experts = Axis::plain(config.experts);
                        b.matrix(described.router_name(l), experts, hidden).range
                    }
                };
                let (mut gate_up, mut down) = (Vec::new(), Vec::new());
                for e in 0..config.experts {
                    gate_up.push(b.stacked([expert(e, 0), expert(e, 1)], inner, hidden).range);
                    down.push(b.matrix(expert(e, 2), hidden, inner).range);
                }
                let biases_of_experts = described.expert_bias.then(|| {
                    let vector = |weight: String| weight.replace(".weight", ".bias");
                    let experts = Axis::plain(config.experts);
                    let router = b.tensor(vector(described.router_name(l)), None, experts);
                    let (mut gate_up, mut down) = (Vec::new(), Vec::new());
                    for e in 0..config.experts {
                        let first = b.tensor(vector(expert(e, 0)), None, inner);
                        let second = b.tensor(vector(expert(e, 1)), None, inner);
                        gate_up.push(first.start..second.end);
                        down.push(b.tensor(vector(expert(e, 2)), None, hidden));
                    }
                    ExpertBiases {
                        router,
                        gate_up,
                        down,
                    }
                });
                let experts = ExpertRanges {
                    router,
                    gate_up,
                    down,
                    biases: biases_of_experts,
                };
                let shared = (config.shared > 0).then(|| b.shared_expert(config, l));
                Layer {
                    range: start..b.total,
                    input_norm,
                    mixer,
                    middle_norm,
                    experts,
                    shared,
                }
            })
            .collect();
        let final_norm = b.tensor("model.norm.weight".to_owned(), None, hidden);
        let head = if config.tied {
            embedding.clone()
        } else {
            b.matrix("lm_head.weight".to_owned(), vocabulary, hidden)
        };
        debug_assert!(b.total.is_multiple_of(LANES));
        let sizes = config.linear.as_ref().map(|linear| linear.sizes);
        Self {
            widths: Widths {
                hidden: hidden.padded(),
                head: padded(config.head),
                queries: queries.padded(),
                keys: keys.padded(),
                intermediate: inner.padded(),
                experts: padded(config.experts),
                vocabulary: vocabulary.padded(),
                shared: padded(config.shared),
                channels: padded(sizes.map_or(0, Sizes::channels)),
                values: padded(sizes.map_or(0, |sizes| sizes.value_heads * sizes.value)),
                value_heads: padded(sizes.map_or(0, |sizes| sizes.value_heads)),
            },
            embedding,
            layers,
            final_norm,
            head,
            total: b.total,
            tensors: b.tensors,
        }
    }

    /// Layers with keys and values.
    pub fn keyed(&self) -> usize {
        let keyed = |layer: &&Layer| matches!(layer.mixer, Mixer::Attention(_));
        self.layers.iter().filter(keyed).count()
    }

    /// The experts' block as the kernels see it.
    pub fn shape(&self, config: &Config) -> Shape {
        Shape {
            hidden: self.widths.hidden,
            intermediate: self.widths.intermediate,
            experts: config.experts,
            chosen: config.chosen,
            rule: config.rule,
            activation: config.activation,
        }
    }

    /// Matrices whose panels stay f32 in any precision: the routers, in ascending order.
    pub fn exact(&self) -> Vec<Range<usize>> {
        let routers = self.layers.iter().map(|layer| layer.experts.router.clone());
        routers.filter(|range| !range.is_empty()).collect()
    }

    /// Pieces of the parameters that are updated and repacked as one: the embedding, each layer, the tail.
    pub fn units(&self) -> Vec<Range<usize>> {
        let mut units = vec![self.embedding.range.clone()];
        units.extend(self.layers.iter().map(|layer| layer.range.clone()));
        units.push(self.final_norm.start..self.total);
        units
    }

    /// Matrices that products use and that lie in `unit`.
    pub fn matrices(&self, unit: &Range<usize>) -> Vec<Matrix> {
        let mut all = vec![self.head.clone()];
        let Widths {
            hidden,
            intermediate,
            experts,
            ..
        } = self.widths;
        for layer in &self.layers {
            match &layer.mixer {
                Mixer::Attention(Attention {
                    query,
                    key_value,
                    output,
                    ..
                }) => all.extend([query, key_value, output].map(Matrix::clone)),
                Mixer::Linear(LinearAttention {
                    channels,
                    gate,
                    strength,
                    decay,
                    output,
                    ..
                }) => {
                    all.extend([channels, gate, strength, decay, output].map(Matrix::clone));
                }
            }
            if let Some(SharedExpert {
                gate_up,
                down,
                gate,
            }) = &layer.shared
            {
                all.extend([gate_up, down, gate].map(Matrix::clone));
            }
            if !layer.experts.router.is_empty() {
                all.push(Matrix {
                    range: layer.experts.router.clone(),
                    out: experts,
                    inp: hidden,
                });
            }
            let up = layer.experts.gate_up.iter();
            all.extend(up.map(|range| Matrix {
                range: range.clone(),
                out: 2 * intermediate,
                inp: hidden,
            }));
            let down = layer.experts.down.iter();
            all.extend(down.map(|range| Matrix {
                range: range.clone(),
                out: hidden,
                inp: intermediate,
            }));
        }
        all.retain(|matrix| unit.contains(&matrix.range.start));
        all
    }
}

/// Names of the selection biases, one a layer, which no gradient trains; none unless the router has them.
pub fn bias_names(config: &Config) -> Vec<String> {
    let layers = if config.rule == Rule::Sigmoid {
        config.layers
    } else {
        0
    };
    (0..layers)
        .map(|layer| config.family.describe().bias_name(layer))
        .collect()
}
