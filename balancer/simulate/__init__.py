"""What a strategy is worth: traces replayed on a fleet of simulated agents, beside policies that are no balancer."""
