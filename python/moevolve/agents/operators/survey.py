"""What a brief says about each skill: its verb, how weak it is, and up to which length the bare policy is
safe."""

SAFE = 0.88
"""Success, relative to the skill's best level, from which a level counts as safe to ask directly. Relative,
since estimates from few attempts are drawn toward the middle."""
HOPELESS = 0.5
"""A skill whose best level is below this has no safe level."""


def parse(prompt):
    """Verb and payload of a prompt."""
    verb, _, payload = prompt.partition(":")
    return verb, payload.removesuffix("=")


class Skill:
    """One skill as the improver sees it."""

    __slots__ = ("path", "verb", "success", "safe", "reach", "known", "failed", "wrong")

    def __init__(self, path, verb, success, safe, reach, known, failed, wrong):
        self.path = path
        self.verb = verb
        self.success = success
        """Mean over levels, through the program."""
        self.safe = safe
        """Longest payload that the bare policy answers safely; 0 if unknown."""
        self.reach = reach
        """Longest payload that the program answers safely; 0 if unknown."""
        self.known = known
        """(payload, confirmed answer), longest first."""
        self.failed = failed
        """Payloads of failed attempts, longest first."""
        self.wrong = wrong
        """(payload, the answer that was wrong), longest first."""


def survey(brief):
    """The skills whose prompts the brief shows, weakest first."""
    seen = {report.path: ([], [], [], []) for report in brief.skills}
    verbs = {}
    for kind, attempts in enumerate((brief.successes, brief.failures)):
        for attempt in attempts:
            verb, payload = parse(attempt.prompt)
            if attempt.skill not in seen or not verb or not payload:
                continue
            verbs[attempt.skill] = verb
            seen[attempt.skill][2].append(len(payload) - attempt.level)
            seen[attempt.skill][kind].append((payload, attempt.answer) if kind == 0 else payload)
            if kind:
                seen[attempt.skill][3].append((payload, attempt.answer))
    skills = []
    for report in brief.skills:
        if report.path not in verbs:
            continue
        known, failed, offsets, wrong = seen[report.path]
        offset = sorted(offsets)[len(offsets) // 2]
        safe = _safe(report.direct, report.first + offset)
        reach = _safe(report.program, report.first + offset)
        success = sum(report.program) / max(1, len(report.program))
        known = sorted(set(known), key=lambda pair: (-len(pair[0]), pair))
        failed = sorted(set(failed), key=lambda payload: (-len(payload), payload))
        wrong = sorted(set(wrong), key=lambda pair: (-len(pair[0]), pair))
        skills.append(Skill(report.path, verbs[report.path], success, safe, reach, known, failed, wrong))
    return sorted(skills, key=lambda skill: (skill.success, skill.path))


def _safe(levels, first):
    """Length of the payloads up to which every level succeeds, relative to the best; `first` is that of the first level."""
    mastered, best = 0, max(levels, default=0.0)
    for level, value in enumerate(levels, start=1):
        if best < HOPELESS or value < SAFE * best:
            break
        mastered = level
    return max(0, first + mastered - 1) if mastered else 0
