# producer.py
from balancer import Balancer

with Balancer() as balancer:
    login = balancer.submit(role="developer", category="feature", payload={"page": "login"})
    home = balancer.submit(
        role="developer",
        category="feature",
        priority="high",
        payload={"page": "home"},
        depends_on=[login],
    )
    for task_id in (login, home):
        status = balancer.wait(task_id, timeout_s=60)
        print(task_id, status.state.value, "on", status.agent, status.result)
