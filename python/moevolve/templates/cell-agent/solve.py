"""Writes the formula of one cell: recalls cells that were asked for in like words, shows the model those that name as much
as this one, and asks. Where memory has too few, cells of its own that name as much stand before them."""

import re

SHOWN = 3
CALM, CURIOUS = 0.0, 0.4


async def solve(task, agent):
    recalled = await agent.recall(wording(task.prompt), k=12, words=1.0, vector=0.0, trust=0.5)
    alike = like(
        task.prompt, [(each.prompt, each.answer) for each in recalled if each.success and each.prompt]
    )[:SHOWN]
    sure = len(alike) == SHOWN
    own = [] if sure else like(task.prompt, examples(agent.files["prompts/cells.md"]))
    shown = "".join(f"{told(prompt)} {answer}\n\n" for prompt, answer in [*own, *reversed(alike)])
    reply = await agent.generate(
        shown + told(task.prompt), max_tokens=32, temperature=CALM if sure else CURIOUS, stop="\n"
    )
    return reply.text.strip()


def examples(text):
    """Prompts with their answers, of a file in which a blank line stands between them."""
    cells = [cell.rpartition(" ") for cell in text.strip().split("\n\n")]
    return [(prompt, answer) for prompt, _, answer in cells]


def like(prompt, cells):
    """The cells that name as many things of each kind as a prompt."""
    return [cell for cell in cells if form(cell[0]) == form(prompt)]


def told(prompt):
    """A cell as the model is asked for it: the words of who asks, and of these what a formula may name, in their order."""
    ask = words_of(prompt)
    names = names_of(prompt)
    uses = [
        word if word in names or word.isdigit() else f'"{word}"' for word in ask if is_name(word, ask, names)
    ]
    return f"Ask: {' '.join(ask)}\nNames: {', '.join(uses)}\nFormula:"


def wording(prompt):
    """How a cell is asked for, without what it is about: names, members and numbers tell no kind of formula."""
    ask, names = words_of(prompt), names_of(prompt)
    return " ".join(word for word in ask if not is_name(word, ask, names)) or prompt


def form(prompt):
    """How many ranges of numbers and of texts, members and numbers an ask names, and whether it has texts to choose."""
    ask, names = words_of(prompt), names_of(prompt)
    kinds = [
        "number" if word.isdigit() else "member" if word not in names else names.index(word) in (1, 2)
        for word in ask
        if is_name(word, ask, names)
    ]
    return sorted(map(str, kinds)), any(word.startswith('"') for word in ask)


def words_of(prompt):
    return re.findall(r'"?\w+"?', prompt.partition("Ask: ")[2].partition("\n")[0])


def names_of(prompt):
    return re.findall(r"[a-z]+", prompt.partition(": ")[2].partition(";")[0])


def is_name(word, ask, names):
    """Whether a word is a range's name, a number, or, but for the first one, a name with a capital."""
    return word in names or word.isdigit() or (word.istitle() and word != ask[0])
