"""The loops of a balancer process: consumer, drainer, sweeper. `step()` does one pass and says what
it did, `run()` repeats it.
"""
