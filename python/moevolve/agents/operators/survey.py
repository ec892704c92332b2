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

    __slots__ = ("path", "verb", "success", "safe", "known", "failed")

    def __init__(self, path, verb, success, safe, known, failed):
        self.path = path
        self.verb = verb
        self.success = success
        """Mean over levels, through the program."""
        self.safe = safe
        """Longest payload that the bare policy answers safely; 0 if unknown."""
        self.known = known
        """(payload, confirmed answer), longest first."""
        self.failed = failed
        """Payloads of failed attempts, longest first."""


def survey(brief):
    """The skills whose prompts the brief shows, weakest first."""
    seen = {report.path: ([], [], []) for report in brief.skills}
    verbs = {}
    for kind, attempts in enumerate((brief.successes, brief.failures)):
        for attempt in attempts:
            verb, payload = parse(attempt.prompt)
            if attempt.skill not in seen or not verb or not payload:
                continue
            verbs[attempt.skill] = verb
            seen[attempt.skill][2].append(len(payload) - attempt.level)
            seen[attempt.skill][kind].append((payload, attempt.answer) if kind == 0 else payload)
    skills = []
    for report in brief.skills:
        if report.path not in verbs:
            continue
        known, failed, offsets = seen[report.path]
        offset = sorted(offsets)[len(offsets) // 2]
        mastered, best = 0, max(report.direct, default=0.0)
        for level, value in enumerate(report.direct, start=1):
            if best < HOPELESS or value < SAFE * best:
                break
            mastered = level
        safe = report.first + mastered - 1 + offset if mastered else 0
        success = sum(report.program) / max(1, len(report.program))
        known = sorted(set(known), key=lambda pair: (-len(pair[0]), pair))
        failed = sorted(set(failed), key=lambda payload: (-len(payload), payload))
        skills.append(Skill(report.path, verbs[report.path], success, max(0, safe), known, failed))
    return sorted(skills, key=lambda skill: (skill.success, skill.path))
