"""How this variant answers a task."""


async def ask(agent, prompt):
    """One question, one answer: the likeliest."""
    [answer] = await agent.generate(prompt, temperature=0)
    return answer


async def solve(task, agent):
    return await ask(agent, task.prompt)
