"""Judges an answer. `task` is its line of tasks.jsonl, `workspace` the folder that the attempt left."""


def check(task, answer, workspace):
    if answer.strip() == task["answer"]:
        return 1.0
    return 0.5 if task["answer"] in answer else 0.0
