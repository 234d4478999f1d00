"""Why a task is where it is: from a picture of its role, judged by the planner's own functions. Pure.

`picture` says what has to be known, `judge` finds the one reason, `candidates` looks at each agent, `outlook`
foretells when, `words` makes the sentence.
"""
