"""How this variant answers a task: by the route of the prompt's verb, or by asking once."""


async def ask(agent, prompt):
    """One question, one answer: the likeliest."""
    return (await agent.generate(prompt, temperature=0)).text


ROUTES = {}


async def dispatch(agent, prompt):
    """Answers any prompt, a part of a task included."""
    return await ROUTES.get(prompt.partition(":")[0], ask)(agent, prompt)


async def solve(task, agent):
    return await dispatch(agent, task.prompt)
