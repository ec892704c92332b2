"""Stages: ways to get an answer out of the policy. Operators graft their source into `solve.py`.

A stage takes the agent and a prompt `verb:payload=` and returns whole completions of the policy, joined or
alone: the program decides what to ask and in which order to put the answers, never what the answers say.
"""


async def ask(agent, prompt):
    """One question, one answer: the likeliest."""
    return (await agent.generate(prompt, temperature=0)).text


async def dispatch(agent, prompt):
    """The program's own way to answer any prompt; a program defines this itself."""
    return await ask(agent, prompt)


def parse(prompt):
    """Verb and payload of a prompt."""
    verb, _, payload = prompt.partition(":")
    return verb, payload.removesuffix("=")


def question(verb, payload):
    """The prompt for a verb and a payload."""
    return f"{verb}:{payload}="


def cut_even(payload, size):
    """Parts of at most `size` characters, as equal as they can be."""
    count = max(1, -(-len(payload) // size))
    edges = [round(len(payload) * index / count) for index in range(count + 1)]
    return [payload[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def cut_change(payload, size):
    """Like even parts, but a run of equal characters is never cut in two."""
    parts = [""]
    for part in cut_even(payload, size):
        while part and parts[-1] and part[0] == parts[-1][-1]:
            parts[-1] += part[0]
            part = part[1:]
        if part:
            parts.append(part)
    return parts[1:]


def cut_range(payload, size):
    """One part per range of the alphabet, lower ranges first; the order within a part stays."""
    share = len(payload) / max(1, -(-len(payload) // size))
    groups, held = [""], 0
    for letter in sorted(set(payload)):
        if held and held + payload.count(letter) > share + 1:
            groups.append("")
            held = 0
        groups[-1] += letter
        held += payload.count(letter)
    return ["".join(letter for letter in payload if letter in group) for group in groups]


def cut(payload, size, how):
    """Parts of a payload: `even`, at a `change` of character, or by `range` of the alphabet."""
    return {"even": cut_even, "change": cut_change, "range": cut_range}[how](payload, size)


def most_frequent(answers):
    """The answer given most often; the earliest of several."""
    return max(answers, key=answers.count)


def texts(*given):
    """The texts of completions, in order."""
    return [completion.text for completions in given for completion in completions]


async def vote(agent, prompt, samples, temperature):
    """The likeliest answer and some samples; the most frequent wins."""
    first, others = await agent.gather(
        agent.generate(prompt, temperature=0), agent.generate(prompt, n=samples, temperature=temperature)
    )
    return most_frequent(texts(first, others))


async def settle(agent, prompt, samples):
    """One part's answer: asked once, or voted on."""
    return await (ask(agent, prompt) if samples <= 1 else vote(agent, prompt, samples, 0.7))


async def retry(agent, prompt, samples, temperature):
    """Asks again at another temperature if the first answer is empty or longer than the question."""
    answer = await ask(agent, prompt)
    if answer and len(answer) < len(prompt):
        return answer
    others = await agent.generate(prompt, n=samples, temperature=temperature)
    return most_frequent([other for other in texts(others) if other and len(other) < len(prompt)] or [answer])


async def split(agent, prompt, size, above, cut_at, join, samples):
    """Splits a long payload, answers the parts, joins the answers in `order` or `reversed`."""
    verb, payload = parse(prompt)
    if len(payload) <= above:
        return await settle(agent, prompt, samples)
    parts = cut(payload, size, cut_at)
    answers = await agent.gather(*[settle(agent, question(verb, part), samples) for part in parts])
    return "".join(reversed(answers) if join == "reversed" else answers)


async def carry(agent, prompt, size, above, samples):
    """Parts one after another; after an answer that ends in 1, the next part starts odd where it was even."""
    verb, payload = parse(prompt)
    if len(payload) <= above:
        return await settle(agent, prompt, samples)
    answers = []
    for part in cut_even(payload, size):
        if answers and answers[-1].endswith("1") and part[0].isdigit():
            part = str(int(part[0]) ^ 1) + part[1:]
        answers.append(await settle(agent, question(verb, part), samples))
    return "".join(answers)


async def fold(agent, prompt, size, above, through, glue, samples):
    """Answers the parts, then folds the answers through another of the policy's skills, or the same one."""
    verb, payload = parse(prompt)
    if len(payload) <= above:
        return await settle(agent, prompt, samples)
    parts = cut_even(payload, size)
    answers = await agent.gather(*[settle(agent, question(verb, part), samples) for part in parts])
    total = answers[0]
    for answer in answers[1:]:
        total = await settle(agent, question(through or verb, f"{total}{glue}{answer}"), samples)
    return total


def column_edges(first, second, sign, size):
    """Places, from the right, where two numbers can be cut so that nothing is carried and no zero leads."""
    width = max(len(first), len(second))
    first, second = first.zfill(width), second.zfill(width)
    edges = [0]
    last = None
    for place in range(1, width):
        upper, lower = int(first[-place]), int(second[-place])
        if (1 <= upper + lower <= 8) if sign == "+" else upper - lower >= 2:
            last = place
        if last is not None and last - edges[-1] >= size:
            edges.append(last)
    if len(edges) > 1 and width - edges[-1] < size:
        edges.pop()
    return [*edges, width]


async def columns(agent, prompt, size, above, samples):
    """Adds or subtracts by groups of columns, cut where nothing is carried; the answers stand side by
    side."""
    verb, payload = parse(prompt)
    sign = "+" if "+" in payload else "-"
    first, _, second = payload.partition(sign)
    if len(payload) <= above or not (first.isdigit() and second.isdigit()):
        return await settle(agent, prompt, samples)
    edges = column_edges(first, second, sign, size)
    width = edges[-1]
    first, second = first.zfill(width), second.zfill(width)
    groups = [
        (int(first[width - end : width - start]), int(second[width - end : width - start]))
        for start, end in zip(edges, edges[1:], strict=False)
    ]
    if sign == "+":
        groups = [(max(pair), min(pair)) for pair in groups]
    answers = await agent.gather(
        *[settle(agent, question(verb, f"{left}{sign}{right}"), samples) for left, right in reversed(groups)]
    )
    if len(answers) > 1 and answers[0] == "0":
        answers = answers[1:]
    return "".join(answers)


async def steps(agent, prompt, above):
    """Adds or subtracts the second number one digit at a time, lowest first."""
    verb, payload = parse(prompt)
    sign = "+" if "+" in payload else "-"
    total, _, second = payload.partition(sign)
    if len(payload) <= above or not second.isdigit():
        return await ask(agent, prompt)
    amounts = [digit + "0" * place for place, digit in enumerate(reversed(second)) if digit != "0"]
    for amount in amounts or ["0"]:
        total = await ask(agent, question(verb, f"{total}{sign}{amount}"))
    return total


async def chain(agent, prompt, verbs):
    """Applies other skills one after another, each by the program's own route."""
    _, payload = parse(prompt)
    for verb in verbs:
        payload = await dispatch(agent, question(verb, payload))
    return payload


async def doubt(agent, prompt, samples, temperature, agreement, size, cut_at, join):
    """Votes first; if too few samples agree, splits instead."""
    first, others = await agent.gather(
        agent.generate(prompt, temperature=0), agent.generate(prompt, n=samples, temperature=temperature)
    )
    answers = texts(first, others)
    answer = most_frequent(answers)
    if answers.count(answer) >= agreement * len(answers):
        return answer
    return await split(agent, prompt, size, 0, cut_at, join, 1)


async def verified(agent, prompt, samples, temperature, through):
    """Takes the first answer whose inverse, asked of another skill, gives the payload back; else the most
    frequent."""
    _, payload = parse(prompt)
    first, others = await agent.gather(
        agent.generate(prompt, temperature=0), agent.generate(prompt, n=samples, temperature=temperature)
    )
    answers = texts(first, others)
    distinct = list(dict.fromkeys(answers))
    backs = await agent.gather(*[ask(agent, question(through, answer)) for answer in distinct])
    for answer, back in zip(distinct, backs, strict=True):
        if back == payload:
            return answer
    return most_frequent(answers)


async def swapped(agent, prompt, samples, temperature):
    """Asks with the two numbers in either order and votes over both."""
    verb, payload = parse(prompt)
    sign = next((sign for sign in ",+" if sign in payload), None)
    if sign is None:
        return await vote(agent, prompt, samples, temperature)
    left, _, right = payload.partition(sign)
    other = question(verb, f"{right}{sign}{left}")
    given = await agent.gather(
        agent.generate(prompt, temperature=0),
        agent.generate(other, temperature=0),
        agent.generate(prompt, n=samples, temperature=temperature),
        agent.generate(other, n=samples, temperature=temperature),
    )
    return most_frequent(texts(*given))


async def window(agent, prompt, size, above, samples):
    """Compares two long numbers by a few digits from where they differ, then asks for the larger one beside
    itself."""
    verb, payload = parse(prompt)
    left, _, right = payload.partition(",")
    if len(payload) <= above or len(left) != len(right) or left == right:
        return await settle(agent, prompt, samples)
    place = next(place for place in range(len(left)) if left[place] != right[place])
    place = max(0, min(place, len(left) - size))
    parts = [number[place : place + size] for number in (left, right)]
    larger = await settle(agent, question(verb, ",".join(parts)), samples)
    if larger not in parts:
        return await settle(agent, prompt, samples)
    number = (left, right)[parts.index(larger)]
    return await settle(agent, question(verb, f"{number},{number}"), samples)


async def recalled(agent, prompt, k):
    """Shows the policy solved examples before the question."""
    lessons = await agent.recall(prompt, k)
    examples = "".join(f"{lesson.prompt}{lesson.answer};" for lesson in reversed(lessons) if lesson.success)
    return await ask(agent, examples + prompt)
