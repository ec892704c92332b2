"""Shows the model what was solved before and is nearest to the task, then asks: what memory holds is its only teacher."""


async def solve(task, agent):
    lessons = await agent.recall(task.prompt, k=4, words=0.5, vector=0.5, trust=0.5)
    shown = "".join(f"{each.prompt} {each.answer}\n\n" for each in reversed(lessons) if each.success)
    reply = await agent.generate(f"{shown}{task.prompt}", max_tokens=48, temperature=0.3, stop="\n")
    return reply.text.strip()
