"""The native module: one section a room."""

import os
from collections.abc import Sequence
from typing import Any, Protocol, final, type_check_only

from typing_extensions import Buffer

__all__ = [
    "Constraint",
    "Engine",
    "MemoryStore",
    "MoeLayer",
    "PolicyReport",
    "Progress",
    "RunStore",
    "Sample",
    "SandboxedProcess",
    "Scheduler",
    "StepReport",
    "Tensor",
    "__version__",
    "plan",
    "probe",
    "spawn",
    "synced",
]

__version__: str

# --- engine
@final
class Tensor:
    """Float32 values in C order, read-only. Supports the buffer protocol: `numpy.asarray(t)` shares the memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""

    def tolist(self) -> list[Any]:
        """Nested lists, one level a dimension."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Engine:
    """A decoder in memory, on the CPU: `minimax_m2`, `qwen3_moe`, `olmoe`, `mixtral`, `llama` or `qwen3`.

    Calls on one engine exclude each other, but texts become tokens, and tokens texts, beside them; all release the GIL.
    Results are the same bits on any number of threads, and a row or a sample does not depend on what else is in the batch.
    """

    @staticmethod
    def load(path: str | os.PathLike[str], threads: int = 0, weights: str = "auto") -> Engine:
        """Reads a GGUF file, or a Hugging Face folder: config.json, safetensors in one file or by an index, tokenizer.json.

        Args:
            path: the file or folder.
            threads: 0 takes all available cores.
            weights: "trainable" decodes them into f32 and packs them, 8 to 12 bytes a parameter; "stored" keeps them
                mapped, in the format that the file has, for reading only; "auto" stores what has more than 1e8
                parameters or is quantised. A mapped file must not be written into: replace it.

        Raises:
            CheckpointError: a file is missing, torn or alien; names the file, key or tensor.
        """

    @staticmethod
    def create(config_json: str, tokenizer_json: str | None, seed: int, threads: int = 0) -> Engine:
        """Random weights for the text of a config.json: normal matrices, norms of one, selection biases of zero.

        Raises:
            CheckpointError: the configuration or the tokenizer cannot be used.
        """

    def save(
        self, path: str | os.PathLike[str], dtype: str | None = None, max_shard_size: int | None = None
    ) -> None:
        """Writes a folder that transformers 5.18 or newer loads, under the released tensor names, or a GGUF file.

        Args:
            path: made if it does not exist; a name that ends in ".gguf" asks for such a file, which llama.cpp runs.
            dtype: "f32", "bf16" or "f16", None for what was loaded; of a GGUF file these, "q8_0", "q4_0" or "q4_k",
                None for "f16". Selection biases stay f32.
            max_shard_size: bytes of tensors in each part of a GGUF file; where they need several, `NAME.gguf` becomes
                `NAME-00001-of-0000N.gguf` and the others.

        Raises:
            CheckpointError: a file cannot be written.
        """

    def write_weights(self, file: str | os.PathLike[str]) -> str:
        """Writes what trains as f32 into one safetensors file, atomically; returns the BLAKE3 hash of its bytes.

        That is every tensor, or the adapter's alone under PEFT's names.
        """

    def read_weights(self, file: str | os.PathLike[str]) -> None:
        """Takes the weights of a file, the adapter's where there is one; on an error the old ones stay.

        The optimiser keeps its moments.

        Raises:
            CheckpointError: names the tensor that is missing, left over, of another shape, or not finite.
        """

    def fingerprint(self) -> str:
        """BLAKE3 in hex over the name, shape and f32 values of every tensor that trains, selection biases included."""

    def clone(self) -> Engine:
        """An engine of its own with the same weights and adapter and a fresh optimiser; stored weights are shared."""

    def config(self) -> str:
        """The text of config.json as it would be saved."""

    @property
    def parameters(self) -> int:
        """Trained numbers; selection biases are not among them."""

    @property
    def threads(self) -> int: ...
    @property
    def isa(self) -> str:
        """The kernels in force: "avx512bf16", "avx512", "avx2" or "scalar"; the variable MOEVOLVE_ISA chooses another."""

    @property
    def precision(self) -> str:
        """What the operands of products are rounded to: "f32" or "bf16". Sums and weights are f32 in either.

        A model is loaded in "f32". Set it to change it; "fastest" takes bf16 where the processor multiplies bf16 at
        twice the rate. Either gives the same bits on every processor. Routers are exact in either.

        Raises:
            UsageError: another name.
        """

    @precision.setter
    def precision(self, name: str, /) -> None: ...
    @property
    def device(self) -> str:
        """Where the network is: "cpu", or "cuda:N"."""

    def to_card(
        self,
        index: int,
        kernels: str | os.PathLike[str],
        driver: str = "libcuda.so.1",
        precision: str | None = None,
        stay: bool = False,
    ) -> None:
        """Moves weights, adapter and optimiser to a card; on an error they stay where they were.

        Args:
            index: the card's number.
            kernels: folder of the compiled kernels.
            driver: library of the driver.
            precision: as of `Engine.precision`, "fastest" being "bf16" but beside an adapter; None leaves it. Weights that
                stay as their file has them become f32 there, or bf16.
            stay: whether a network that this card does not run stays where it is, without an error.

        Raises:
            UsageError: no driver, one that is too old, no such card, one without bf16, kernels of another version, or a
                network that cards do not run.
            CapacityError: the card has not enough memory: what was asked for, and what is free.
        """

    def to_cpu(self) -> None:
        """Moves them back; nothing changes of an engine that is there."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def eos(self) -> list[int]:
        """Tokens that end a text, of config.json and generation_config.json."""

    @property
    def has_tokenizer(self) -> bool: ...
    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids; `add_special` puts the tokenizer's own special tokens around, such as a beginning of text.

        Raises:
            UsageError: the checkpoint has no tokenizer.
        """

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        """Text of token ids, special tokens left out unless asked for.

        Raises:
            UsageError: the checkpoint has no tokenizer.
        """

    def token_bytes(self, ids: list[int]) -> list[bytes]:
        """The bytes that each token stands for; of a special one, those of its name.

        Raises:
            UsageError: the checkpoint has no tokenizer.
        """

    def constraint(self, form: str, source: str, marks: list[str]) -> Constraint:
        """A grammar compiled for this model's tokens.

        Args:
            form: "json" (a JSON schema), "regex" or "lark".
            source: its text.
            marks: special tokens that are text, the same in every call.

        Raises:
            UsageError: it cannot be compiled, or the checkpoint has no tokenizer or no end token.
        """

    @property
    def chat_templates(self) -> dict[str, str]:
        """All chat templates by name; one without a name is the "default"."""

    @property
    def chat_template(self) -> str | None:
        """The model's chat template (jinja) of its tokenizer files, the one named "default" of several."""

    @property
    def special(self) -> dict[str, str]:
        """Texts of special tokens by their role: bos_token, eos_token, pad_token, unk_token, where known."""

    @property
    def notes(self) -> list[str]:
        """What could not be taken over exactly from the model's file, such as a GGUF's unknown rule for splitting texts."""

    def score_part(
        self, ids: list[int], top: int, read: int
    ) -> tuple[list[tuple[float, list[tuple[int, float]]]], int]:
        """Log-probability of each token but the first given those before it, and the `top` likeliest in its place: of some
        that follow the first `read`, and how many are read then.

        Raises:
            UsageError: no token that is not read, one outside the vocabulary, or more positions than the model has.
        """

    def embed_part(
        self, ids: list[int], read: int, sums: list[float]
    ) -> tuple[int, list[float], list[float] | None]:
        """Adds the last hidden states, after the final norm, of some tokens that follow the first `read` to their sums,
        which are empty at first: how many are read then, the sums, and the mean once all are.

        Raises:
            UsageError: as `score_part`.
        """

    def logits(self, ids: list[list[int]]) -> Tensor:
        """(rows, longest row, vocabulary): what each token predicts; NaN past a shorter row's end.

        Raises:
            UsageError: a token outside the vocabulary, or more positions than the model has.
        """

    def generate(self, requests: Sequence[_Request]) -> list[list[Sample]]:
        """Draws all samples of some requests to their ends, without stop texts; each depends on its own prompt, settings and
        key alone, and a prompt is read once for all its samples.

        Returns:
            One list a request, one sample a key.

        Raises:
            UsageError: an empty prompt, an unknown token, or an impossible setting.
        """

    def scheduler(self, slots: int = 64, memory: int = 0) -> Scheduler:
        """A scheduler for requests as they come, over this engine's weights. Weights that change meanwhile count for what is
        read after.

        Args:
            slots: samples that are drawn together, at most.
            memory: most bytes of keys, values and states; 0 takes what all slots need at the model's last position, but at
                most half of the memory that is free.

        Raises:
            UsageError: no slots.
            CapacityError: the memory holds nothing.
        """

    def reset_optimizer(
        self,
        beta1: float = 0.9,
        beta2: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip: float = 1.0,
        bias_rate: float = 0.0,
    ) -> None:
        """Begins training anew: AdamW with zero moments.

        Args:
            beta1: decay of the mean.
            beta2: decay of the mean square.
            eps: added to the root.
            weight_decay: times the learning rate, off every tensor alike.
            clip: largest global norm of the gradient.
            bias_rate: how far a step moves each selection bias towards balanced experts; 0 leaves them alone.
        """

    def train_step(self, batch: Sequence[_Example], learning_rate: float, norms: bool = False) -> StepReport:
        """One step on a batch: the weighted mean over all answer tokens, tokens[start:], of the cross-entropy given what
        stands before them. Where there is an adapter, it alone is changed.

        Args:
            norms: tell the norms of the experts' gradients too.

        Raises:
            UsageError: an example that cannot be learnt, or weights that do not train.
            MoevolveError: the loss or its gradient is not finite; the weights are unchanged.
        """

    def policy_step(
        self,
        batch: Sequence[_Rollout],
        learning_rate: float,
        loss: str = "cispo",
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        kl: float = 0.0,
        length: int = 0,
        norms: bool = False,
    ) -> StepReport:
        """One step on sampled answers, tokens[start:], under a policy's loss; see `moevolve.Engine.reinforce`.

        Raises:
            UsageError: an unknown loss, a number out of range, or an answer whose lists do not fit.
            MoevolveError: the loss or its gradient is not finite; the weights are unchanged.
        """

    def policy_gradients(
        self,
        batch: Sequence[_Rollout],
        loss: str = "cispo",
        clip_low: float = 0.2,
        clip_high: float = 0.28,
        kl: float = 0.0,
        length: int = 0,
    ) -> tuple[float, dict[str, Tensor]]:
        """The loss of `policy_step` and its gradient by name, as of `gradients`."""

    def logprobs(self, batch: Sequence[_Sequence], base: bool = False) -> list[list[float]]:
        """Log-probability of each answer token, tokens[start:], given what stands before it.

        Args:
            base: leave the adapter out.
        """

    def adapt(self, rank: int, alpha: float, targets: list[str], root: bool = False, seed: int = 0) -> None:
        """Freezes the weights and puts a low-rank adapter beside them, which alone trains from here, with fresh moments;
        see `Engine.adapt`.

        Args:
            root: scale by alpha over the root of the rank, instead of over the rank.

        Raises:
            UsageError: a size out of range, a target that this model lacks, or an adapter is there already.
        """

    @property
    def adapter(self) -> dict[str, Any] | None:
        """ "rank", "alpha", "root", "targets" (as the checkpoint names them) and "parameters" of the adapter."""

    def merge(self) -> None:
        """Adds the adapter to the weights, which train from here with fresh moments; stored ones become f32.

        Raises:
            UsageError: there is no adapter.
        """

    def save_adapter(self, folder: str | os.PathLike[str], base: str) -> None:
        """Writes a folder that PEFT loads, whose configuration calls the model `base`."""

    def load_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Puts the adapter of a folder in PEFT's layout beside the weights.

        Raises:
            CheckpointError: a file is missing or torn, or the adapter needs what this engine lacks; names the key.
        """

    def save_training(self, folder: str | os.PathLike[str], state: str = "") -> None:
        """Writes what trains, the optimiser and the caller's `state`, so that training can go on to the bit."""

    def load_training(self, folder: str | os.PathLike[str]) -> str:
        """Takes training up where `save_training` left it; returns the caller's state.

        Raises:
            CheckpointError: a file is missing or torn, belongs to another model, or to another step than its neighbour.
        """

    checkpointing: bool
    """Whether training keeps each layer's input alone and computes the rest again: a third more work, much less memory,
    and the same bits."""

    def gradients(self, batch: Sequence[_Example]) -> tuple[float, dict[str, Tensor]]:
        """The loss of `train_step` and its gradient by every tensor's released name; an adapter's by PEFT's."""

# --- training
@type_check_only
class _Sequence(Protocol):
    """An answer and what stands before it: `Example` or `Rollout` of `moevolve.protocol.training`."""

    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def start(self) -> int: ...
    @property
    def positions(self) -> int | list[int]: ...

@type_check_only
class _Example(_Sequence, Protocol):
    @property
    def weight(self) -> float: ...

@type_check_only
class _Rollout(_Sequence, Protocol):
    @property
    def advantage(self) -> float | list[float] | None:
        """A number, or one an answer token."""

    @property
    def logprobs(self) -> list[float]: ...
    @property
    def reference(self) -> list[float] | None: ...
    @property
    def age(self) -> int: ...

@final
class StepReport:
    """What a step saw: `moevolve.protocol.training.StepReport` has the units."""

    @property
    def loss(self) -> float: ...
    @property
    def tokens(self) -> int: ...
    @property
    def gradient_norm(self) -> float: ...
    @property
    def expert_load(self) -> list[list[float]]: ...
    @property
    def expert_gradient(self) -> list[list[float]]: ...
    @property
    def policy(self) -> PolicyReport | None: ...

@final
class PolicyReport:
    """What a policy's tokens were like: `moevolve.protocol.training.PolicyReport` has the units."""

    @property
    def ratio(self) -> float: ...
    @property
    def max_ratio(self) -> float: ...
    @property
    def clip_fraction(self) -> float: ...
    @property
    def approx_kl(self) -> float: ...
    @property
    def abs_log_ratio(self) -> float: ...
    @property
    def reference_kl(self) -> float: ...
    @property
    def entropy(self) -> float: ...
    @property
    def age(self) -> float: ...
    @property
    def max_age(self) -> int: ...

# --- generation
@type_check_only
class _Sampling(Protocol):
    """What a request says about its draws: `moevolve.protocol.sampling.Sampling`."""

    @property
    def max_tokens(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def min_p(self) -> float: ...
    @property
    def frequency_penalty(self) -> float: ...
    @property
    def presence_penalty(self) -> float: ...
    @property
    def repetition_penalty(self) -> float: ...
    @property
    def logit_bias(self) -> Sequence[tuple[int, float]]: ...
    @property
    def stop_tokens(self) -> Sequence[int]: ...
    @property
    def top_logprobs(self) -> int: ...
    @property
    def speculate(self) -> int: ...
    @property
    def ignore_eos(self) -> bool: ...
    @property
    def min_tokens(self) -> int: ...
    @property
    def allowed_tokens(self) -> Sequence[int]: ...

@type_check_only
class _Request(Protocol):
    """A prompt, its settings and keys: `moevolve.protocol.sampling.TokenRequest`."""

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def sampling(self) -> _Sampling: ...
    @property
    def keys(self) -> Sequence[int]: ...
    @property
    def compiled(self) -> Constraint | None: ...

@final
class Constraint:
    """A grammar compiled for a model's tokens; `Engine.constraint` makes it, requests carry it."""

@final
class Sample:
    """One finished sample."""

    @property
    def tokens(self) -> list[int]:
        """Without the end token."""

    @property
    def logprobs(self) -> list[float]:
        """Natural logs at temperature 1, before penalties and biases, of all that was drawn, the end token included."""

    @property
    def top(self) -> list[list[tuple[int, float]]]:
        """The likeliest tokens with theirs, one list a log-probability, if they are asked for."""

    @property
    def finish(self) -> str:
        """ "stop" after an end token, "length" at the limit, "unconstrained" where a constraint became too complex,
        "not_finite" where a logit is NaN or +inf, or none is above -inf."""

    @property
    def text(self) -> str:
        """Of the tokens, without special ones; empty without a tokenizer."""

@final
class Progress:
    """What one step did to one sample."""

    @property
    def request(self) -> int: ...
    @property
    def sample(self) -> int:
        """Its index among the request's keys."""

    @property
    def tokens(self) -> list[int]: ...
    @property
    def logprobs(self) -> list[float]: ...
    @property
    def top(self) -> list[list[tuple[int, float]]]: ...
    @property
    def finish(self) -> str | None:
        """ "stop", "length", "unconstrained", "not_finite", "cancelled", or None while it goes on."""

@final
class Scheduler:
    """Requests under way on an engine: they wait in order, share its steps, and leave as they end.

    A sample depends on the weights, its prompt, its key and its settings alone. Keys and values lie in blocks of
    sixteen tokens that texts with the same beginning share. All methods release the GIL while they work, and may be
    called from several threads; `step` excludes other calls on the engine.
    """

    def add(self, request: _Request) -> int:
        """Takes a request in, one sample a key of 64 bits; returns its number. Stop texts are the caller's.

        Raises:
            UsageError: an empty prompt, an unknown token, or an impossible setting.
            CapacityError: a sample would need more memory than there is; names both figures.
        """

    def cancel(self, request: int, sample: int | None = None) -> bool:
        """Ends a request, or one sample of it, in the next round; False if nothing of it is under way."""

    def step(self) -> list[Progress]:
        """Lets in what fits, then draws a token, or several if draft tokens came true, for every sample with a slot.

        Returns:
            By request and sample. Empty when idle.
        """

    @property
    def slots(self) -> int: ...
    @property
    def busy(self) -> int:
        """Samples that have a slot."""

    @property
    def waiting(self) -> int:
        """Samples that wait for one."""

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of keys and values: "limit", "reserved" (samples hold them, or may still need them, states included), and
        "used" (samples hold them, or they are kept because later texts may begin alike)."""

# --- experts

@final
class MoeLayer:
    """One Mixture-of-Experts block (sigmoid router with selection bias, SwiGLU experts), packed for reading.

    Calls on one block exclude each other and release the GIL. Results are the same bits on any number of threads.

    Args:
        router: (experts, hidden).
        bias: one an expert; added to the scores for the selection only.
        gate_up: (experts, 2 * intermediate, hidden), gate over up.
        down: (experts, hidden, intermediate).
        hidden, intermediate: multiples of 16.
        chosen: experts a token.
        precision: what the operands of the experts' products are rounded to: "f32", "bf16" or "fastest".
        threads: 0 takes all available cores.

    All buffers hold contiguous float32; nothing may write to one during a call.

    Raises:
        UsageError: a size or the precision is wrong.
    """

    def __new__(
        cls,
        router: Buffer,
        bias: Buffer,
        gate_up: Buffer,
        down: Buffer,
        *,
        hidden: int,
        intermediate: int,
        chosen: int,
        precision: str = "fastest",
        threads: int = 0,
    ) -> MoeLayer: ...
    def forward(self, x: Buffer) -> Tensor:
        """The block applied to `x` (tokens, hidden): (tokens, hidden), without the residual."""

    @property
    def precision(self) -> str:
        """ "f32" or "bf16"."""

    @property
    def isa(self) -> str:
        """The kernels in force."""

# --- plan
def plan(path: str | os.PathLike[str]) -> str:
    """What a model weighs, from its configuration alone, as a JSON object.

    Args:
        path: a checkpoint folder, its config.json, or a GGUF file, of which only the header is read. Configurations
            that the engine does not run (FP8, for one) are planned as well.

    Returns:
        "model_type", "layers", "hidden", "heads", "key_heads", "head", "vocabulary", "experts", "chosen",
        "positions" (or null), "parameters", "active" per token with the output head and "active_without_vocabulary",
        "kv_bytes_per_token" in bf16, "parts" (a list of "name", "parameters", "active"), "bytes" by format, and
        "stored_bytes" (a GGUF's tensors; else null).

    Raises:
        CheckpointError: a field is missing or impossible; names the file and the key.
    """

# --- sandbox
@final
class SandboxedProcess:
    """A process that nobody trusts; dropping it kills everything it started. Not thread-safe."""

    @property
    def pid(self) -> int:
        """Process id in this process's namespace."""

    @property
    def layers(self) -> list[str]:
        """Names of the layers in force around it."""

    @property
    def missing(self) -> list[str]:
        """Names of the layers that this machine does not offer."""

    def send(self, body: bytes, seconds: float) -> None:
        """Writes one frame within `seconds`.

        Raises:
            TimeoutError: the child does not read, or has used up its processor time.
            SandboxError: the child is gone.
        """

    def receive(self, most: int, seconds: float, *, values: int = 1 << 19, depth: int = 32) -> bytes:
        """Reads one frame, a JSON message of at most `most` bytes, `values` values and `depth` open brackets, within
        `seconds`. Bounds are checked while it arrives.

        Raises:
            TimeoutError: no whole frame arrived in time, or the child has used up its processor time.
            ValueError: the child announced a larger frame, or it holds more.
            SandboxError: the child is gone.
        """

    def stderr(self) -> str:
        """The newest output on stderr, at most 4 KiB."""

    def close(self) -> str:
        """Kills the whole process tree and says how the child ended."""

def spawn(
    program: str | os.PathLike[str],
    arguments: list[str],
    environment: list[tuple[str, str]],
    readable: Sequence[str | os.PathLike[str]],
    executable: Sequence[str | os.PathLike[str]],
    *,
    memory: int,
    cpu_seconds: int,
    hidden: Sequence[str | os.PathLike[str]] = ...,
    open_files: int = 32,
    processes: int = 1,
    warm: bool = False,
    trusted_start: bool = False,
    input: bytes = ...,
    strict: bool = False,
) -> SandboxedProcess:
    """Starts a child under every layer that works here; it dies with the thread that called this.

    Args:
        program: absolute path of the executable.
        arguments: what follows the program's name.
        environment: the whole environment.
        readable: files and folders that may be read; missing ones are left out.
        executable: files and folders that may be read and executed, the dynamic loader included.
        memory: address space in bytes.
        cpu_seconds: processor time; a child that uses it up is a `TimeoutError`.
        hidden: files and folders below readable ones that stay closed.
        open_files: open descriptors.
        processes: processes of the user; 1 forbids starting any. Threads are forbidden always.
        warm: the child may fork, what it forks may not.
        trusted_start: it is trusted until it sets the clock that reseeds, and reads this machine's clocks until then; the
            call returns at that moment.
        input: what waits on its standard input when it starts, as much as a pipe takes.
        strict: refuse if a layer is missing.

    Raises:
        SafetyError: strict, and a layer is missing; or `warm`, and the virtual clock is.
        SandboxError: a step of the setup failed.
    """

def synced() -> bool:
    """Whether commits wait for the disk: unless the variable MOEVOLVE_SYNC is `off`.

    Raises:
        UsageError: the variable is neither `on` nor `off`.
    """

def probe() -> dict[str, list[str]]:
    """The names of the `layers` in force, and of those that are `missing`."""

# --- store
@final
class RunStore:
    """A run's LMDB store: one process writes, any number read. Bodies and timings are the caller's bytes."""

    @staticmethod
    def create(path: str | os.PathLike[str], schema: int, map_size: int | None = None) -> RunStore:
        """Makes a new run in the folder `path` and opens it for writing.

        Raises:
            UsageError: the folder holds a run already.
            StoreBusyError: another process is making one there.
            StorageFullError: no space is left.
        """

    @staticmethod
    def open(
        path: str | os.PathLike[str], schema: int, *, write: bool = False, map_size: int | None = None
    ) -> RunStore:
        """Opens the run in the folder `path`.

        Args:
            path: the run's folder.
            schema: newest schema that the caller knows.
            write: take the writer's lock.
            map_size: most bytes the store may have, address space only; 16 GiB when None.

        Raises:
            UsageError: the folder holds no run.
            StoreBusyError: another process writes it; the message names its id.
            SchemaError: a newer version wrote it.
            StoreError: the file is torn or alien.
        """

    @staticmethod
    def is_run(path: str | os.PathLike[str]) -> bool:
        """Whether the folder looks like a run, without opening it."""

    def close(self) -> None:
        """Lets go of the lock and the file, once other threads' calls end; what is called later raises `StoreError`."""

    def commit(
        self,
        entries: list[tuple[bytes, bytes]],
        puts: list[tuple[str, str, bytes | None]],
        blobs: list[bytes],
    ) -> str:
        """Writes (body, timing) entries, (table, key, value or None to delete) rows and blobs in one durable commit.

        Returns:
            the journal's head.
        """

    def entries(self, start: int, limit: int) -> list[tuple[int, str, bytes, bytes]]:
        """At most `limit` entries from `start` on, as (seq, hash, timing, body)."""

    def head(self) -> str:
        """The newest link of the chain in hexadecimal; 64 zeros while there is no entry."""

    def __len__(self) -> int: ...
    def verify(self) -> int:
        """Recomputes the whole chain; returns the number of entries, or raises `StoreError` naming the first broken."""

    def put_blob(self, data: bytes) -> str:
        """Stores bytes in a durable commit of their own; returns their BLAKE3 hash in hexadecimal."""

    def blob(self, hash: str) -> bytes:
        """The bytes of a hash, checked against it."""

    def get(self, table: str, key: str) -> bytes | None:
        """A table's value, or None."""

    def scan(
        self, table: str, prefix: str = "", *, limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, bytes]]:
        """A table's rows whose key starts with `prefix`, by key."""

    def set_state(self, state: bytes) -> None:
        """Says what the writer is doing: at most 8,164 bytes, not synced, works on a full disk."""

    def state(self) -> bytes | None:
        """What the writer said last, or None."""

    def writer_alive(self) -> bool:
        """Whether a process has the run open for writing now."""

@final
class MemoryStore:
    """Lessons that outlive the runs; several processes may write, one at a time."""

    @staticmethod
    def open(
        path: str | os.PathLike[str], schema: int, *, create: bool = False, map_size: int | None = None
    ) -> MemoryStore | None:
        """Opens the memory in the folder `path`; None if there is none and it is not to be made."""

    def close(self) -> None:
        """Lets go of the file, once other threads' calls end; what is called later raises `StoreError`."""

    def put(
        self,
        lessons: Sequence[
            tuple[str, str, str, str, str, int, int | None, str | None, str, bytes | None, bytes]
        ],
    ) -> None:
        """Writes (id, kind, skill, run, source, cycle, until, supersedes, text, vector as f32, body) in one commit."""

    def adopt(
        self,
        lessons: Sequence[
            tuple[
                tuple[str, str, str, str, str, int, int | None, str | None, str, bytes | None, bytes],
                tuple[float, bool, bool],
            ]
        ],
    ) -> None:
        """Writes lessons as of `put`, each with its (trust, pinned, forgotten), as they stood in another memory."""

    def purge(self, id: str) -> bool:
        """Takes a lesson off the file; False if there was none of this id."""

    def count(self) -> int:
        """Number of lessons on file."""

    def check(self) -> int:
        """Number of lessons, after a proof that they and all indices agree."""

    def get(self, id: str) -> bytes | None:
        """A lesson's body."""

    def all(self, after: str | None, limit: int) -> list[bytes]:
        """Bodies of at most `limit` lessons whose id comes after `after`, by id."""

    def by_skill(self, skill: str, run: str | None, limit: int) -> list[bytes]:
        """Bodies of a skill's lessons: runs by name from last to first, in each the newest cycle first."""

    def search(
        self,
        *,
        text: str | None = None,
        vector: bytes | None = None,
        kinds: list[str] = ...,
        skill: str | None = None,
        besides: str | None = None,
        run: str | None = None,
        source: str | None = None,
        before_cycle: int | None = None,
        forgotten: bool = False,
        k: int = 8,
        confidence: float = 0.0,
        weights: tuple[float, float, float] = ...,
    ) -> list[tuple[str, float, float | None, float | None, float, float, bool, bytes]]:
        """(id, score, by words, by vector, confidence, trust, pinned, body) of what answers a query, best first."""

    def standing(self, id: str) -> tuple[float, bool, bool] | None:
        """(trust, pinned, forgotten) of a lesson."""

    def set_standings(self, standings: list[tuple[str, tuple[float, bool, bool]]]) -> int:
        """Changes how lessons stand; returns how many of the ids are there."""

    def embedder(self) -> str | None:
        """What made the vectors."""

    def set_embedder(self, name: str) -> None:
        """Says what makes the vectors from now on; another one than before drops all vectors."""

    def without_vector(self, start: int, limit: int) -> tuple[int, list[tuple[str, str]]]:
        """The next row, and (id, text) of at most `limit` lessons without a vector from row `start` on."""

    def set_vectors(self, vectors: list[tuple[str, bytes]]) -> int:
        """Gives lessons their vectors as f32; returns how many of the ids are there."""

    def statistics(self) -> dict[str, int | str | None]:
        """Counts: current, superseded, forgotten, words, vectors, dimensions; and the embedder."""
