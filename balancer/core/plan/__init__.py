"""How a plan is made: the hard rules, one small file a family of strategies, what is kept free for whom.
`balancer.core.planner` puts it together.
"""
