"""Thinks, calls tools, reads what they say, and answers: the suite's `tools.py` has the tools."""

from agent import ToolError

STEPS = 6


async def solve(task, agent):
    tools = await agent.tools(task.prompt) or await agent.tools()
    messages = [{"role": "system", "content": agent.files["prompts/system.md"]}, *task.messages]
    for _ in range(STEPS):
        turn = await agent.generate(messages, tools=tools, temperature=0)
        if not turn.tool_calls:
            return turn.text.strip()
        messages.append(turn.message())
        for call in turn.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": await result(agent, call)})
    last = await agent.generate(
        [*messages, {"role": "user", "content": "Give the answer now."}], temperature=0
    )
    return last.text.strip()


async def result(agent, call):
    """What a tool says, or why it says nothing."""
    try:
        return str(await agent.call(call.name, **call.arguments))
    except ToolError as error:
        return f"failed: {error}"
