"""Writes the formula of one cell: shows the model some cells, and those that memory has in like words, and asks."""

import re


async def solve(task, agent):
    lessons = await agent.recall(wording(task.prompt), k=3, words=1.0, vector=0.0, trust=0.5)
    shown = "".join(f"{each.prompt} {each.answer}\n\n" for each in reversed(lessons) if each.success)
    prompt = f"{agent.files['prompts/cells.md']}{shown}{task.prompt}"
    reply = await agent.generate(prompt, max_tokens=40, temperature=0.3, stop="\n")
    return reply.text.strip()


def wording(prompt):
    """How a cell is asked for, without what it is about: names, members and numbers tell no kind of formula."""
    names = set(re.findall(r"[a-z]+", prompt.partition(";")[0]))
    ask = prompt.partition("Ask: ")[2].partition("\n")[0]
    words = re.findall(r"[A-Za-z]+", ask)
    return " ".join(word for word in words if word not in names and not word.istitle()) or ask
