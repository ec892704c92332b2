"""Stages: plans for a task that operators graft into `solve.py`.

A stage takes a task whose texts are opaque and returns an expression. It decides what the policy is asked and in which order
its answers stand, never what they say.
"""

import plan


def dispatch(task):
    """The program's own plan for any task; a program defines this itself."""
    return plan.ask(task.prompt)


def question(task, payload):
    """The prompt for a payload under the task's verb."""
    return f"{task.verb}:{payload}="


def settle(prompt, samples):
    """One prompt's answer: the likeliest, or the most frequent of some samples."""
    return plan.ask(prompt) if samples <= 1 else plan.vote(prompt, samples=samples, temperature=0.7)


def ask(task):
    """One question, one answer."""
    return plan.ask(task.prompt)


def vote(task, samples, temperature):
    """The likeliest answer and some samples; the most frequent wins."""
    return plan.vote(task.prompt, samples=samples, temperature=temperature)


def retry(task, samples, temperature):
    """Asks again at another temperature if the first answer is empty or as long as the question."""
    return plan.retry(task.prompt, samples=samples, temperature=temperature)


def answers(task, size, above, cut_at, samples):
    """The parts of a long payload, each answered by itself."""
    return task.payload.cut(size, cut_at, above=above).each(
        lambda part: settle(question(task, part), samples)
    )


def split(task, size, above, cut_at, join, samples):
    """Splits a long payload, answers the parts, joins the answers in `order` or `reversed`."""
    parts = answers(task, size, above, cut_at, samples)
    return (parts.backwards() if join == "reversed" else parts).join()


def carry(task, size, above, samples):
    """Parts one after another: the last character so far stands in front of the next part, its own is cut off again."""
    return task.payload.cut(size, above=above).one_by_one(
        lambda part: settle(question(task, part), samples),
        lambda so_far, part: so_far + settle(question(task, f"{so_far[-1:]}{part}"), samples)[1:],
    )


def fold(task, size, above, through, glue, samples):
    """Answers the parts, then folds the answers through another of the policy's skills, or the same one."""
    return answers(task, size, above, "even", samples).one_by_one(
        lambda answer: answer,
        lambda total, answer: settle(f"{through or task.verb}:{total}{glue}{answer}=", samples),
    )


def offset(task, size, above, through, back):
    """Answers the parts, then folds the answers through a sum whose first number stands a ten higher, and takes the ten off
    again: a policy may know `14+3` and not `4+3`."""
    return answers(task, size, above, "even", 1).one_by_one(
        lambda answer: answer,
        lambda total, answer: plan.ask(f"{back}:{plan.ask(f'{through}:1{total}+{answer}=')}-10="),
    )


def inverse(task, size, above, back, samples):
    """Adds or subtracts by groups of columns; a group's answer is one that the other operation leads back to its first
    number."""
    sign = "-" if back == "sub" else "+"
    return (
        task.payload.cut(size, "columns", above=above)
        .each(
            lambda part: plan.verify(
                question(task, part),
                lambda answer: plan.ask(f"{back}:{answer}{sign}{part.right}="),
                part.left,
                samples=samples,
                temperature=1.0,
            )
        )
        .join(number=True)
    )


def columns(task, size, above, samples):
    """Adds or subtracts by groups of columns, cut where nothing is carried; the answers stand side by side."""
    return answers(task, size, above, "columns", samples).join(number=True)


def steps(task):
    """Adds or subtracts the places of the second number one by one, lowest first."""
    number = task.payload
    return number.right.cut(1, "places").one_by_one(
        lambda amount: plan.ask(question(task, f"{number.left}{number.sign}{amount}")),
        lambda total, amount: plan.ask(question(task, f"{total}{number.sign}{amount}")),
    )


def chain(task, verbs):
    """Applies other skills one after another, each by the program's own plan."""
    answer = None
    for verb in verbs:
        answer = dispatch(task.under(verb, answer))
    return answer


def doubt(task, samples, temperature, agreement, size, cut_at, join):
    """Votes first; if too few samples agree, splits instead."""
    return plan.vote(
        task.prompt,
        samples=samples,
        temperature=temperature,
        least=agreement,
        otherwise=split(task, size, 0, cut_at, join, 1),
    )


def verified(task, samples, temperature, through):
    """Takes the first answer that another skill leads back to the payload; else the most frequent."""
    return plan.verify(
        task.prompt,
        lambda answer: plan.ask(f"{through}:{answer}="),
        task.payload,
        samples=samples,
        temperature=temperature,
    )


def swapped(task, samples, temperature):
    """Asks with the two numbers in either order and votes over both."""
    number = task.payload
    other = question(task, f"{number.right}{number.sign}{number.left}")
    return plan.vote(task.prompt, other, samples=samples, temperature=temperature)


def window(task, size, above, say, samples):
    """Compares two long numbers by some digits from where they differ; the larger is said beside itself, in parts."""

    def whole(number):
        return settle(question(task, f"{number},{number}"), samples)

    def in_parts(number):
        return number.cut(say).each(whole).join()

    return plan.window(
        task.payload,
        size,
        above,
        lambda pair: settle(question(task, pair), samples),
        in_parts if say else whole,
    )


def recalled(task, k, words):
    """Shows the policy solved examples before the question, chosen by words, by the whole text, or by both."""
    return plan.ask(f"{plan.lessons(k, words)}{task.prompt}")
