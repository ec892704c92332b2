"""Agent Skills: skills as folders with a `SKILL.md`, in the format that agents of many makers read (agentskills.io)."""
