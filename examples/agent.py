# agent.py
from worker import Agent, TaskContext

agent = Agent("builder-1", role="developer", max_concurrent=2)


@agent.task("feature")
def build(task: TaskContext) -> dict[str, str]:
    return {"built": task.payload["page"]}


if __name__ == "__main__":
    agent.run()
