"""Answers one task: asks the model, and asks once more where it said nothing."""


async def solve(task, agent):
    messages = [{"role": "system", "content": agent.files["prompts/system.md"]}, *task.messages]
    answer = await agent.generate(messages, temperature=0)
    if not answer.text.strip():
        answer = await agent.generate(messages, temperature=0.7)
    return answer.text.strip()
