"""The pure core: models, lanes and classes, planner, strategies, invariants. No Redis, clock,
environment or logging.
"""
