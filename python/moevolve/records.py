"""The one schema of everything a run stores: the loop writes these structs and every reader reads them.

One file above 400 lines: the records are one tagged union, and whoever reads a journal reads them side by side.

A journal entry is one `Record`: a tagged union, encoded as MessagePack with its `kind` first. What a record holds is a
function of the run's seed and configuration alone; wall-clock figures travel beside the hash chain in `Timing`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 3
"""Version of this file's structs; a reader refuses a store with a higher one, and reads lower ones."""

Level = Literal["weights", "program"]
Arm = Literal["full", "weights", "program", "alternate", "random-reward", "sft"]
Status = Literal["running", "paused", "finished", "failed", "stopped"]
Decision = Literal["promote", "hold", "veto", "archive", "discard", "void"]
"""`void`: no decision, since too many pairs had no answer. `hold` and `veto`: the comparison was passed as by `promote`, and
the candidate waits for a person, or a guard refused it."""
PASSED: tuple[Decision, ...] = ("promote", "hold", "veto")
"""Decisions on candidates that passed the comparison."""
Command = Literal["approve", "reject", "pause", "stop", "rollback"]
LessonKind = Literal["fact", "procedure", "failure", "tool", "preference"]
"""What a lesson is about."""
Answers = Literal["policy", "any"]
"""Whose an answer may be: built from the policy's completions alone, or computed by the program as well."""


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of plain stored values."""


class Interval(Struct, frozen=True):
    """An estimate in [0, 1] with its 95 % interval over `n` verdicts."""

    mean: float
    low: float
    high: float
    n: int


class SkillScore(Struct, frozen=True):
    """One leaf's share of an evaluation: the mean score of `n` answered tasks."""

    score: float
    n: int


SkillLevel = Annotated[int, Meta(ge=0, le=10_000)]
"""A skill's level: what reads records walks over levels, so that one beyond all sense must not be believed."""


class Tally(Struct, frozen=True):
    """Attempts of one (skill, level) in one stage, counted by outcome."""

    skill: str
    level: SkillLevel
    attempts: int
    successes: int
    failures: dict[str, int] = {}
    """Failure type -> count: `wrong`, `malformed`, `error`, `timeout`, `budget`, `crash`, `check_error`,
    `nondeterministic` (two tries of the same keys went two ways), `rejected` (the policy refused a request), `policy` (it
    did not answer; such attempts are in no mean)."""


class SkillInfo(Struct, frozen=True):
    """A leaf of the run's skill tree."""

    path: str
    summary: str
    levels: tuple[SkillLevel, SkillLevel]


Change = Literal["levels", "compose", "split", "retire"]
"""How a skill tree changes: a leaf opens its next levels, two leaves become a third that asks for both in turn, a leaf is
split by what separates its failures, a leaf that the tree grew is taken out again."""


class Edit(Struct, frozen=True):
    """One proposed change of a program: the whole new text of one file, and what made it."""

    path: str
    text: str
    operator: str
    summary: str


class Recipe(Struct, frozen=True):
    """What `learn.py` decides: how a learning stage trains."""

    learning_rate: float = 1e-3
    steps: int = 60
    batch: int = 96
    recent: float = 0.6
    """Share of a batch drawn from this cycle's confirmed answers; the rest is rehearsal from the whole buffer."""
    program_share: float = 0.5
    """Share of attempts made through the program rather than by the bare policy."""
    focus: float = 0.0
    """0 samples skills evenly; 1 samples them by what is left to learn."""


class SharedMemory(Struct, frozen=True):
    """What a run took over from a memory that outlives runs."""

    lessons: int
    digest: str
    """Of the lessons and their trust."""


class RunStarted(Struct, frozen=True, tag="run_started", tag_field="kind"):
    run: str
    seed: int
    arm: Arm
    suite: str
    answers: Answers
    skills: list[SkillInfo]
    config: str
    """The resolved configuration as canonical JSON: every setting in force."""
    champion: str
    weights: str
    program: str
    parameters: int
    grader: str = ""
    """Seal of the suite's graders: a hash over their source. The run's splits depend on it, and `resume` compares it."""
    shared: SharedMemory | None = None
    """Of a memory that outlives runs; None where the run began with none."""


class VariantAdded(Struct, frozen=True, tag="variant_added", tag_field="kind"):
    """A node of the archive; rejected ones are nodes too. `weights` and `program` are content hashes."""

    variant: str
    parents: list[str]
    """The variant it was made from first, then those that its other half comes from; empty for the first variant."""
    cycle: int
    level: Level | Literal["seed"]
    weights: str
    program: str
    operator: str
    summary: str
    score: float | None
    """Its own screening score, a cheap estimate on train tasks; None where it was not screened."""
    behaviour: str | None = None
    """Content hash of what its program's `solve` returned for each skill; None where no program answers."""
    weights_file: str | None = None
    """BLAKE3 hash of the bytes of the file that holds its weights; None where there is no file."""


class Evaluated(Struct, frozen=True, tag="evaluated", tag_field="kind"):
    """A score. `split` is `sealed` (initial and final, the same tasks) or `dev` (initial and once a cycle, fresh tasks)."""

    cycle: int
    split: Literal["sealed", "dev"]
    when: Literal["initial", "cycle", "final"]
    variant: str
    score: Interval
    skills: dict[str, SkillScore]
    tokens: int
    tallies: list[Tally] = []
    outcomes: list[float | None] = []
    """Of the sealed split: each task's score in the tasks' order, None where it was not answered."""
    missing: int = 0
    """Tasks without an answer, which the score leaves out."""
    void: bool = False
    """More than a few per cent are missing: there is no score."""
    bare: Interval | None = None
    """The bare policy's score on the same tasks, where programs may compute: what is beyond it is the program's."""


class RunExtended(Struct, frozen=True, tag="run_extended", tag_field="kind"):
    """More cycles or minutes than the run had, asked for while it was stopped or after its end. Its settings stay."""

    cycle: int
    """The last cycle before it: finished, or cut short by a person's stop."""
    more_cycles: int | None
    more_minutes: float | None
    cycles: int | None
    """Most cycles of the whole run from now on; None where minutes alone limit it."""


class SealedOpened(Struct, frozen=True, tag="sealed_opened", tag_field="kind"):
    """An access to the sealed split, on record before anybody is scored: for a run's first score and each last one."""

    cycle: int
    count: int
    """Accesses of the run so far, this one included: 1, then 2, then one more for each extension."""
    variant: str
    """Who is scored."""
    when: Literal["initial", "final", "growth", "generalise"]
    """`growth`: the tasks of what the tree grew, for a column beside the last score; `generalise`: those of what the run
    never worked on, an access for each column."""
    tasks: int
    """How many are drawn."""
    digest: str
    """Hash over the names of the tasks in their order: that of every access for a score is the same."""


class CycleStarted(Struct, frozen=True, tag="cycle_started", tag_field="kind"):
    cycle: int
    champion: str
    turn: Level | None = None
    """In arm `alternate`, the level whose turn it is."""


class Grown(Struct, frozen=True, tag="grown", tag_field="kind"):
    """A change of the skill tree that was proposed and tried on train tasks: added, or declined.

    No score before or after counts what a tree grows. `Controlled` with the command `rollback` takes a change back.
    """

    cycle: int
    growth: str
    """Its name, such as `g003`; changes count from 1 over the whole run."""
    change: Change
    skill: str
    """The leaf that opens levels, is split or is retired; of `compose` the new one."""
    parents: list[str]
    """The leaves it is made of, in their order."""
    leaves: list[SkillInfo]
    """Leaves as they are after it: with their levels, the new ones, the retired ones."""
    feature: str
    """Of a split, what separates the tasks; empty otherwise."""
    variant: str
    """Who was tried."""
    decision: Literal["added", "declined"]
    reason: str
    trial: list[Tally]
    """Attempts at fresh train tasks through the variant's program."""
    tokens: int


class GrowthScored(Struct, frozen=True, tag="growth_scored", tag_field="kind"):
    """The growth column: the champion on sealed tasks of what the tree grew, beside the last score and never in it."""

    cycle: int
    variant: str
    skills: dict[str, SkillScore]
    """By leaf: of one that the tree grew all its levels, of another one those that it opened."""
    tallies: list[Tally]
    missing: int
    """Tasks without an answer, which are left out."""
    behaviour: str | None
    """Content hash of the program's plans for these leaves; None where no plan answers."""
    tokens: int


Column = Literal["G0", "G2", "G3", "G4"]
"""What generalisation is measured on: the tasks that the champion's program was screened on, levels above the run's, other
skills of its branches, other branches. G1, new tasks of the same cells, is the sealed score."""


class Generalised(Struct, frozen=True, tag="generalised", tag_field="kind"):
    """A generalisation column: the first variant and the champion on the same tasks with the same keys, beside the last
    score and never in it."""

    cycle: int
    column: Column
    variant: str
    """The champion."""
    cells: list[tuple[str, SkillLevel, int]]
    """(skill, level, tasks), in the tasks' order."""
    outcomes: dict[str, list[float | None]]
    """`seed`, `champion` -> each task's score, None where it was not answered; their gain is paired. Empty where there is no
    column."""
    seed: Interval | None
    """None where too many tasks had no answer, here and below."""
    champion: Interval | None
    missing: int
    """Tasks that one side at least left without an answer."""
    tokens: int
    behaviours: dict[str, str] = {}
    """Variant -> content hash of its program's plans for these skills, where those are no plans of a variant's record."""
    reason: str = ""
    """Why there is no column."""


AGAIN_STAGE = "again"
"""Stage of attempts at tasks that failed before: they say what can be learned, not how well the policy does."""


class Attempted(Struct, frozen=True, tag="attempted", tag_field="kind"):
    """One stage of attempts on train tasks, tallied."""

    cycle: int
    stage: str
    variant: str
    source: Literal["direct", "program"]
    tallies: list[Tally]
    tokens: int


class Learned(Struct, frozen=True, tag="learned", tag_field="kind"):
    """What memory and the training buffer took from a cycle's verdicts."""

    cycle: int
    lessons: int
    confirmed: int
    buffer: int
    recipe: Recipe | None
    """The recipe in force; None where nothing is trained."""
    tokens: int | None = None
    """Tokens drawn for it (rehearsal); None where the attempts on record drew them."""


class Shown(Struct, frozen=True):
    """What one attempt recalled, and what became of it."""

    attempt: int
    """Its place in its stage."""
    lessons: list[int]
    """Places in `Recalled.lessons`: of each recall the best first, one recall after the other."""
    score: float | None
    """None where it had no answer."""


class Recalled(Struct, frozen=True, tag="recalled", tag_field="kind"):
    """What the attempts of one stage recalled."""

    cycle: int
    stage: str
    variant: str
    attempts: int
    """Those that asked memory."""
    recalls: int
    silent: int
    """Recalls that no lesson answered."""
    lessons: list[str]
    """Ids, in the order in which they were shown first."""
    shown: list[Shown]
    left_out: int = 0
    """Attempts that recalled something and stand in no row, since a stage has so many rows."""


class Remembered(Struct, frozen=True, tag="remembered", tag_field="kind"):
    """What a cycle's practice did to memory, beside the lessons of its own attempts."""

    cycle: int
    variant: str
    with_memory: list[float | None]
    """Scores of attempts that recalled something."""
    without: list[float | None]
    """Scores of the same tasks with the same keys, and nothing recalled."""
    tokens: int
    """Drawn for the latter."""
    trust: dict[str, float]
    """Lessons of which attempts told something, with their trust from now on."""
    expired: list[str]
    """Those that did harm, and are recalled no more."""
    notes: int = 0
    """Texts of programs that were kept; they count among `Learned.lessons`."""
    refused: dict[str, int] = {}
    """Reason -> texts of programs that were not."""


class Consolidated(Struct, frozen=True, tag="consolidated", tag_field="kind"):
    """Lessons that say the same, made one or left as they were; `Controlled` with the command `rollback` takes it back."""

    cycle: int
    merge: str
    """Its name: m001 and so on, in the order in which they were proposed."""
    skill: str
    about: LessonKind
    decision: Literal["merged", "declined"]
    reason: str
    lesson: str
    """The lesson that stands for all of them from now on; empty where they were left as they were."""
    sources: list[str]
    evidence: list[tuple[float, float]]
    """For and against each of them, by the outcomes of attempts."""
    trust: float
    """Of the one, from the evidence of all."""


class Outlived(Struct, frozen=True, tag="outlived", tag_field="kind"):
    """Lessons that helped, and were given to the memory that outlives the run."""

    cycle: int
    lessons: list[str]


class Trained(Struct, frozen=True, tag="trained", tag_field="kind"):
    """Progress of a training stage: the mean since the record before."""

    cycle: int
    step: int
    steps: int
    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: int
    expert_load: list[list[float]]
    """Per layer, the share of routed tokens that each expert took."""
    expert_gradient: list[list[float]] = []
    """Per layer, the norm of the gradient of each expert's weights at this step, before clipping."""
    policy: dict[str, float] = {}
    """Of a policy's loss: means over tokens of the ratio and its like; nothing of a supervised one."""


class Proposed(Struct, frozen=True, tag="proposed", tag_field="kind"):
    """A candidate that an improver made; `edits` are summaries, the sources lie in the store by hash."""

    cycle: int
    level: Level
    variant: str
    parent: str
    operator: str
    summary: str
    files: list[str]
    proposer: str = ""
    """Who proposed it; empty for weights, and where an older version did not say."""


class ProposerAsked(Struct, frozen=True, tag="proposer_asked", tag_field="kind"):
    """A proposer asked for candidates, before any of them is looked at."""

    cycle: int
    step: int
    """The step of selection that chose the parent."""
    proposer: str
    asked: int
    """Candidates wanted of it."""
    made: int
    """Candidates that are left to be screened, or kept without a score."""
    repeats: int
    """Candidates that were in the archive already, changed nothing, or behave as another one does."""
    broken: list[str]
    """Reasons of those that do not compile, import or do anything: verdicts on them, never on their parent."""
    failure: str | None
    """Of the proposer as a whole, such as `error`, `timeout`, `malformed`, `budget`."""
    detail: str
    requests: int
    tokens: int


class Screened(Struct, frozen=True, tag="screened", tag_field="kind"):
    """A cheap comparison on train tasks that chooses which candidate goes to the gate."""

    cycle: int
    variant: str
    score: float
    baseline: float
    n: int
    passed: bool
    failures: dict[str, int] = {}
    skills: dict[str, SkillScore] = {}
    """Its score by skill: selection policies that keep specialists read it."""
    void: bool = False
    """Whether too many tasks had no answer of either side, so that it could not pass."""


class Selected(Struct, frozen=True, tag="selected", tag_field="kind"):
    """A step of the selection policy: which variant is changed next, or is evaluated once more before one is."""

    cycle: int
    step: int
    """Counted from 0 over the whole run; every child of a step has one parent."""
    policy: str
    action: Literal["expand", "evaluate"]
    variant: str
    chance: float | None
    """The policy's probability of choosing it; None where it has no closed form."""
    selector: str = ""
    """The variant whose `select_parent.py` was asked, where the run leaves the choice to its programs."""
    fault: str = ""
    """Why that chose nobody, so that `policy` did."""
    skills: dict[str, SkillScore] = {}
    """Of an evaluation: its score by skill on fresh train tasks."""
    tokens: int = 0
    """Drawn for the evaluation."""


class Chosen(Struct, frozen=True, tag="chosen", tag_field="kind"):
    """The choice among one generation's candidates: which goes to the gate, and which do not."""

    cycle: int
    chosen: str | None
    """None where no candidate beat the baseline by the margin."""
    not_chosen: list[str]
    """Candidates that passed the screening, and another one was better."""
    unscreened: list[str]
    """Candidates without a score: edits of `improve.py` or `learn.py` alone, whose worth shows later."""
    tokens: int
    """Tokens drawn by the generation: proposals, baseline and screening."""
    gain: float | None = None
    """The chosen one's gain over the baseline, corrected for having been chosen as the best; None where none was."""
    baseline: dict[str, SkillScore] = {}
    """The champion's score by skill on the tasks of the screening."""


class Pairs(Struct, frozen=True):
    """Scores of one batch at the gate on tasks of one skill, in the order in which the gate took them."""

    batch: int
    """Counted from 0."""
    skill: str
    candidate: list[float | None]
    """None where the policy did not answer."""
    other: list[float | None]
    """The champion's, or those of the variant that holds the skill's best confirmed level."""
    best: bool = False
    """Whether it is the latter."""


class Gated(Struct, frozen=True, tag="gated", tag_field="kind"):
    """A decision of the gate on fresh paired tasks."""

    cycle: int
    level: Level
    candidate: str
    champion: str
    decision: Decision
    reason: str
    n: int
    wins: int
    losses: int
    gain: float
    """Mean paired difference, candidate minus champion, over the `n` gate tasks."""
    evidence: float
    """Log of the e-value for 'better'; promotion needs at least log(1/alpha)."""
    alpha: float
    """The decision's share of the run's error budget."""
    skills: dict[str, float]
    """Mean paired difference per skill."""
    tokens: int | None
    """Tokens drawn for the comparison; None where they were not counted."""
    vetoes: list[str] = []
    """Skills whose non-inferiority failed."""
    rule: str = ""
    """How the budget is shared out between decisions."""
    spent: float | None = None
    """What the run's decisions have spent of it, this one included: the bound on a false promotion so far."""
    bounds: dict[str, float] = {}
    """Lower bound of each skill's difference to its best confirmed level."""
    missing: int = 0
    """Pairs that neither side had an answer for; they are not among the `n`."""
    pairs: list[Pairs] = []
    """What was decided on, batch after batch: all figures above follow from it."""
    guards: list[str] = []
    """Guards that refused a candidate which passed the comparison."""


class Ablated(Struct, frozen=True, tag="ablated", tag_field="kind"):
    """Promoted weights on one set of fresh dev tasks: bare, with the program they came with, with the best one found after.

    A score is None where too many tasks had no answer.
    """

    cycle: int
    weights: str
    """The variant whose weights were promoted."""
    bare: Interval | None
    """The policy alone: its likeliest answer."""
    old: Interval | None
    """With the program that the weights were promoted with."""
    program: str
    """Content hash of that program."""
    searched: Interval | None
    """With the best program that a search after the promotion found; None where there was no search, or it found none."""
    variant: str | None
    """The variant with that program."""
    promoted: bool
    """Whether that variant is the champion now."""
    outcomes: dict[str, list[float | None]]
    """`bare`, `old`, `searched` -> each task's score in the tasks' order, None where it was not answered."""
    tokens: int


class RolledBack(Struct, frozen=True, tag="rolled_back", tag_field="kind"):
    """An earlier champion made the champion again, without a comparison."""

    cycle: int
    champion: str
    """The champion from now on."""
    before: str
    """The champion until now."""
    reason: str


class Suspect(Struct, frozen=True):
    """An attempt that a guard speaks of, in the first characters of its texts."""

    task: str
    """The task's id, or what the guard calls it."""
    prompt: str
    answer: str


class Guarded(Struct, frozen=True, tag="guarded", tag_field="kind"):
    """A check by a guard: how much it looked at, and what it refused."""

    cycle: int
    guard: str
    checked: int
    vetoed: int
    detail: str
    variant: str = ""
    """Whose attempts it looked at, where they are one variant's."""
    alarm: bool = False
    """Whether it found what an honest run would hardly show."""
    evidence: float | None = None
    """Log of the e-value, or of 1/p, that it judged by."""
    proof: float | None = None
    """From which evidence on it raises its alarm."""
    attempts: list[Suspect] = []
    """The attempts that caused the alarm, a few of them."""
    tokens: int = 0
    """Drawn for the check."""


class Controlled(Struct, frozen=True, tag="controlled", tag_field="kind"):
    """What a person asked of the run, taken up between two stages."""

    cycle: int
    request: int
    """Its number; requests count from 1."""
    command: Command
    variant: str
    """Of `approve` and `reject`; of `rollback` the change of the skill tree; empty otherwise."""
    done: bool
    """Whether it was carried out."""
    champion: str
    """The champion from now on."""
    level: Level | None = None
    """What is new about an approved variant."""
    detail: str = ""


class Imported(Struct, frozen=True, tag="imported", tag_field="kind"):
    """A program that a person puts forward, taken up between two stages: the next generation has it among its candidates."""

    cycle: int
    request: int
    """Its number, as of `Controlled`."""
    program: str
    """Content hash; empty where the request held no program."""
    done: bool
    """Whether it becomes a candidate."""
    detail: str = ""
    """Why not."""


class CycleFinished(Struct, frozen=True, tag="cycle_finished", tag_field="kind"):
    cycle: int
    champion: str
    tokens_generated: int
    """Since the journal's first record, like the two below."""
    tokens_trained: int
    lessons: int
    variants: int


class Metered(Struct, frozen=True, tag="metered", tag_field="kind"):
    """What a server was asked in one stage, and what it charged. A request that the run made before costs nothing."""

    cycle: int
    stage: str
    requests: int
    """Requests answered or finally failed."""
    reused: int
    """Requests that equal an earlier one of the run, key included, and share its answer."""
    calls: int
    """Calls that were made for them, tries again included."""
    faults: dict[str, int]
    """Failed calls by type: `timeout`, `refused`, `dropped`, `rate_limited`, `server_error`, `malformed`, `truncated`,
    `rejected`."""
    failures: dict[str, int]
    """Requests that failed for good, by the type of their last call."""
    prompt_tokens: int
    cached_tokens: int
    """Those of `prompt_tokens` that the server had cached."""
    completion_tokens: int
    unmetered: int
    """Answered calls without usage figures: they are in no sum of tokens."""
    cost: str | None
    """Tokens times the run's prices, a decimal number; None without prices."""
    currency: str
    exchanges: str
    """Digest over the exchanges themselves, in the order of their digests, so that the journal vouches for what lies in the
    store."""
    endings: dict[str, int] = {}
    """Answers that ended otherwise than by themselves: `length` (cut at the most tokens), `content_filter`, `refusal`,
    `reasoning` (nothing but reasoning came)."""
    refused: dict[str, str] = {}
    """Fields that the server was found to refuse, with its words; it is asked without them from then on."""
    reason: str = ""
    """Why the first of `failures` failed, in the server's words."""


class Difference(Struct, frozen=True):
    """A difference of two scores of the same tasks, task by task, with its 95 % interval over `n` pairs."""

    gain: float
    low: float
    high: float
    n: int


class Nulls(Struct, frozen=True, tag="nulls", tag_field="kind"):
    """The champion beside the bare policy with as many requests or tokens as its program takes, on the same dev tasks."""

    cycle: int
    variant: str
    samples: int
    """Of the bare policy for each task: as many as the program asks, or as its tokens make, whichever is more."""
    champion: Interval
    greedy: Interval
    """The bare policy's likeliest answer."""
    self_consistency: Interval
    """The most frequent of the samples."""
    best_of: Interval
    """The best of the samples by the grader's own verdicts: more than any choice among them can reach."""
    tokens: int
    """Drawn for all of it."""
    over: dict[str, Difference] = {}
    """The champion's score less `greedy`, `self_consistency` and `best_of`, over the tasks that both sides answered; empty
    where an older version did not say."""


class RunFinished(Struct, frozen=True, tag="run_finished", tag_field="kind"):
    cycles: int
    champion: str
    seal: str = ""
    """The digest that seals the run's files from now on, `sha256`; empty where an older version left them unsealed."""


class Rated(Struct, frozen=True, tag="rated", tag_field="kind"):
    """An evaluator's verdict on a program of an optimisation run, in the order in which evaluations were begun."""

    evaluation: int
    """Counted from 0 over the whole run."""
    variant: str
    purpose: Literal["candidate", "recheck"]
    """`recheck`: a program that was evaluated before, once more with other draws."""
    score: float | None
    """None where the evaluation failed."""
    failure: str | None = None
    """Its type, such as `timeout`, `crashed`, `not_a_number`; `rejected` and `duplicate` were never evaluated."""
    detail: str = ""
    metrics: dict[str, float | bool | str] = {}


class Improved(Struct, frozen=True, tag="improved", tag_field="kind"):
    """The decision about a program whose score was better than the champion's, once it was evaluated again."""

    evaluation: int
    """The last evaluation that it follows from."""
    candidate: str
    champion: str
    """Whom it was compared with."""
    decision: Literal["promote", "archive"]
    rule: Literal["equal", "permutation"]
    """`equal`: the same score twice, which counts as it is; `permutation`: scores differ from one evaluation to the next,
    and only an exact test on fresh ones promotes."""
    candidate_scores: list[float]
    """Fresh ones; the score that led to this decision is none."""
    champion_scores: list[float]
    p: float | None = None
    """Of the test: how often chance alone gives such a gain."""
    alpha: float | None = None
    """The decision's share of the run's error budget."""


Null = Literal["best_of", "random_search"]
"""A null of an optimisation run: as many children of the first program alone, or of any program whatever its score."""


class NullSearched(Struct, frozen=True, tag="null_searched", tag_field="kind"):
    """What a null of an optimisation run came to, in a run of its own inside the folder, at as many evaluations."""

    null: Null
    head: str
    """Its journal's head."""
    evaluations: int
    failed: int
    champion: str
    score: float | None
    """The champion's, from evaluations that it was not chosen by where there are any; None where no program has one."""


Record = (
    RunStarted
    | VariantAdded
    | Evaluated
    | SealedOpened
    | CycleStarted
    | Attempted
    | Grown
    | GrowthScored
    | Generalised
    | Learned
    | Recalled
    | Remembered
    | Consolidated
    | Outlived
    | Trained
    | Proposed
    | ProposerAsked
    | Selected
    | Screened
    | Chosen
    | Gated
    | Ablated
    | RolledBack
    | Guarded
    | Controlled
    | Imported
    | CycleFinished
    | Metered
    | Nulls
    | RunFinished
    | RunExtended
    | Rated
    | Improved
    | NullSearched
)


class Sandbox(Struct, frozen=True):
    """The walls around programs on the machine of one session. Beside the chain: a replay elsewhere has its own."""

    layers: list[str]
    missing: list[str]


class Session(Struct, frozen=True):
    """One process that wrote the run, and its machine. Beside the chain: a replay elsewhere has its own."""

    host: str
    pid: int
    began: float
    """Unix time of its start."""
    version: str
    python: str
    system: str
    processors: int
    """Logical ones that the process may use."""


class Sample(Struct, frozen=True):
    """One attempt of a stage, kept for people: a bounded choice of a stage's attempts lies beside the chain.

    Long texts are cut. Nothing in a run reads samples, and there are none of the sealed split.
    """

    task: str
    """The task's id: skill, level and seed."""
    skill: str
    level: int
    prompt: str
    answer: str
    success: bool
    score: float
    failure: str | None
    detail: str
    requests: list[tuple[str, str]] = []
    """What the program asked the policy and what it drew; empty where that was not kept."""
    other: str | None = None
    """At the gate: what the champion answered to the same task, None where it had no answer."""
    other_requests: list[tuple[str, str]] = []
    """At the gate: what the champion's program asked the policy and what it drew."""
    other_success: bool | None = None
    """At the gate: whether the champion was right; None elsewhere."""


class Timing(Struct, frozen=True):
    """Wall-clock figures of one entry, kept beside the hash chain. Seconds since the run's first entry."""

    at: float
    took: float = 0.0


class Entry(Struct, frozen=True):
    """A journal entry as readers see it."""

    seq: int
    record: Record
    timing: Timing
    hash: str


class Lesson(Struct, frozen=True):
    """What memory keeps of an attempt, from successes and from failures."""

    id: str
    skill: str
    level: int
    text: str
    """The lesson's searchable text: the prompt and what was answered."""
    prompt: str
    answer: str
    success: bool
    run: str
    cycle: int
    variant: str
    kind: LessonKind = "fact"
    source: str = ""
    """The writer's name, where it is not the run itself."""
    until: int | None = None
    """First cycle in which it no longer holds."""
    supersedes: str | None = None
    """The lesson that this one replaces."""
    sources: list[str] = []
    """Lessons that say the same, of which it was made."""


class GateProgress(Struct, frozen=True):
    """A comparison at the gate while it goes on."""

    candidate: str
    champion: str
    level: Level
    n: int
    """Pairs so far."""
    most: int
    """Pairs after which the comparison ends without a shown gain."""
    wins: int
    losses: int
    gain: float
    evidence: float
    """Log of the e-value for 'better' so far."""
    alpha: float
    """A promotion needs evidence of log(1/alpha)."""
    harmed: list[str] = []
    """Skills shown to be worse than the margin allows."""


class State(Struct, frozen=True):
    """What the writer says of itself, outside the chain: which process writes, and how far it is."""

    status: Status
    pid: int
    stage: str
    """What is being done now, in words a person reads: `cycle 3/8: gate, weights`."""
    done: float
    """Share of the whole run that is done, in [0, 1]."""
    seconds: float
    eta: float | None
    error: str | None = None
    gate: GateProgress | None = None
    """The comparison under way at the gate."""
